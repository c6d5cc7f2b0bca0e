"""Names that become names of files."""


def is_file_name(name: str) -> bool:
    """Whether a name stays inside the folder that it is joined to, on every operating system."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
