"""How our html pages look: on a desktop or a phone, light or dark; and what their plots have in common."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --line: #d8dde4; --soft: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --paper: #14181d; --line: #333b45; --soft: #1d232a; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: auto;
  padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; }
.tiles div { background: var(--soft); border-radius: .4rem; padding: .6rem .8rem; font-size: .85rem; }
.tiles b { display: block; font-size: 1.3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.prefix { white-space: nowrap; font-family: ui-monospace, monospace; }
ul { margin: 0; padding-left: 1.1rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .8rem; }
p.small { font-size: .85rem; }
"""

#: A plotly layout that shows the page's paper, light or dark.
CLEAR_LAYOUT = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "height": 320,
    "margin": {"l": 50, "r": 10, "t": 10, "b": 45},
}
