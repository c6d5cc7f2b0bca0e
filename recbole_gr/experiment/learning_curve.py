"""How loss and validation score went, epoch by epoch."""


def note_epochs(trainer):
    """Let a trainer note its epochs.

    Args:
        trainer (recbole.trainer.Trainer): before ``fit``.

    Returns:
        list of dict: grows while it trains; ``epoch``, ``train_loss`` (the sum over batches, as RecBole prints it) and,
        for epochs that were validated, ``valid_score``. After ``resume`` it begins where training goes on.
    """
    curve = []
    train, validate = trainer._train_epoch, trainer._valid_epoch

    def train_and_note(train_data, epoch, *args, **kwargs):
        loss = train(train_data, epoch, *args, **kwargs)
        curve.append({"epoch": epoch, "train_loss": sum(loss) if isinstance(loss, tuple) else loss})
        return loss

    def validate_and_note(*args, **kwargs):
        score, result = validate(*args, **kwargs)
        if curve:
            curve[-1]["valid_score"] = float(score)
        return score, result

    trainer._train_epoch, trainer._valid_epoch = train_and_note, validate_and_note
    return curve
