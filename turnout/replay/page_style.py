"""The style sheet of a replay's report: light or dark like the reader's system, wide or narrow.

On a narrow screen, each row of a table becomes a list of its cells, and the plots for narrow screens are shown.
"""

STYLE = """
:root { color-scheme: light dark; --text: #1a1d21; --soft: #5c6570; --page: #fff; --line: #d8dde3; --one: #8a6d00;
  --two: #0b63c5; --good: #2b7a3d; --bad: #b3261e; --rest: #f0d4d2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #9aa4b0; --page: #15181c; --line: #343a42;
  --one: #e0b93a; --two: #6aaeff; --good: #6cc381; --bad: #ff8a80; --rest: #6b3b37; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin: 2.2rem 0 0.5rem; }
.soft, figcaption, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: 0.2rem 1rem; margin: 1rem 0 0; } dd { margin: 0; }
code, td.value { font-family: ui-monospace, monospace; font-size: 0.85em; }
.verdict { border-left: 4px solid var(--line); padding: 0.1rem 0 0.1rem 1rem; margin: 1.6rem 0; }
.verdict p { margin: 0.3rem 0; }
.verdict code { white-space: nowrap; }
.verdict.good { border-color: var(--good); } .verdict.bad { border-color: var(--bad); }
.answer { font-size: 2rem; font-weight: 600; line-height: 1.2; }
.good .answer { color: var(--good); } .bad .answer { color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: 0.35rem 1rem 0.35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; } td.word { white-space: nowrap; }
figure { margin: 1.5rem 0 0; } figure > svg { width: 100%; max-width: 640px; height: auto; display: block; }
figure > svg.narrow { display: none; }
svg text { fill: var(--soft); font-size: 12px; } svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke-width: 2; } svg .side0 { stroke: var(--one); stroke-dasharray: 6 3; }
svg .side1 { stroke: var(--two); } svg .bar { fill: var(--two); } svg .rest { fill: var(--rest); }
svg.share { width: 120px; height: 10px; vertical-align: middle; margin-right: 0.5rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.5rem; margin: 0 0 0.5rem; padding: 0; }
svg.key { width: 24px; height: 8px; vertical-align: middle; margin-right: 0.3rem; }
@media (max-width: 900px) {
  body { margin-top: 1rem; }
  dl { display: block; } dt { margin-top: 0.5rem; font-size: 0.9em; }
  figure > svg.wide { display: none; } figure > svg.narrow { display: block; max-width: 420px; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  table, tbody, tr, td { display: block; }
  tr { border-bottom: 1px solid var(--line); padding: 0.5rem 0; }
  td, td.number, td.word { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: 0.1rem 0;
    text-align: right; white-space: normal; }
  td:empty { display: none; }
  td::before { content: attr(data-label); color: var(--soft); font-family: system-ui, sans-serif; text-align: left;
    flex: none; max-width: 45%; }
  td.value { font-size: 0.8em; } td.value::before { font-size: 1rem; }
}
@media print { :root { color-scheme: light; } body { max-width: none; } tr, figure { break-inside: avoid; } }
"""
