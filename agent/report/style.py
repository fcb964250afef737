"""How the page looks: on a screen by day and by night, and on A4."""

from agent.report.markup import Markup

STYLE = Markup("""
:root {
  color-scheme: light;
  --paper: #f7f6f2; --card: #ffffff; --ink: #1d2a31; --soft: #5d6b73; --line: #e2e0d8; --grid: #e9e7e0;
  --very-low: #8c2f39; --low: #d0605e; --in-range: #4f9d80; --high: #e6b450; --very-high: #cf7f2f;
  --outer: #cfdfe9; --inner: #93b8cf; --median: #1f5673; --target: #eaf4ee; --limit: #4f9d80;
  --heart-outer: #f1dde1; --heart-inner: #dfb1bb; --heart: #a5435a; --seen: #dcd9d0; --usable: #9fb3a8;
  --count: 31, 86, 115; --notice: #fbf3df; --notice-line: #e6b450;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --paper: #12171a; --card: #1a2125; --ink: #e4e9ea; --soft: #9aa8af; --line: #2c363b; --grid: #273035;
    --very-low: #b5525c; --low: #e0807c; --in-range: #5fae90; --high: #e0b45c; --very-high: #d98d45;
    --outer: #24404f; --inner: #3a6b85; --median: #a9d3e8; --target: #1b2b26; --limit: #5fae90;
    --heart-outer: #43282f; --heart-inner: #74404d; --heart: #efa9b8; --seen: #364146; --usable: #6e8a7d;
    --count: 120, 180, 210; --notice: #2c2718; --notice-line: #a98743;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-print-color-adjust: exact;
  print-color-adjust: exact; font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 36px 24px 48px; }
h1, h2, h3, p { margin: 0; }
h1 { font-size: 30px; font-weight: 650; letter-spacing: -0.01em; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 19px; font-weight: 650; margin-bottom: 14px; }
h3 { font-size: 14px; font-weight: 600; margin: 26px 0 10px; }
header { display: flex; flex-wrap: wrap; gap: 6px 28px; justify-content: space-between; align-items: flex-end;
  margin-bottom: 22px; }
header p { color: var(--soft); }
.mark { font-size: 13px; text-align: right; }
.mark strong { color: var(--ink); font-weight: 600; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 24px 26px;
  margin-bottom: 18px; }
.brief ul { margin: 0; padding-left: 20px; }
.brief li { margin: 3px 0; }
.notice { background: var(--notice); border-left: 3px solid var(--notice-line); border-radius: 6px;
  padding: 9px 14px; margin-bottom: 16px; }
.note { color: var(--soft); font-size: 13px; margin-top: 10px; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-family: inherit; fill: var(--soft); }
.axis { font-size: 12px; font-variant-numeric: tabular-nums; }
.axis.strong { font-weight: 650; fill: var(--ink); }
.axis.small { font-size: 11px; }
.target { fill: var(--target); }
.grid { stroke: var(--grid); stroke-width: 1; }
.hour { stroke: var(--grid); stroke-width: 1; stroke-dasharray: 2 4; }
.limit { stroke: var(--limit); stroke-width: 1.2; }
.outer { fill: var(--outer); } .inner { fill: var(--inner); }
.median { fill: none; stroke: var(--median); stroke-width: 2.6; stroke-linejoin: round; stroke-linecap: round; }
.outer.heart { fill: var(--heart-outer); } .inner.heart { fill: var(--heart-inner); }
.median.heart { stroke: var(--heart); } .heart-dot { fill: var(--heart); }
rect.seen { fill: var(--seen); } rect.usable { fill: var(--usable); }
.day-line { fill: none; stroke: var(--median); stroke-width: 1.5; stroke-linejoin: round; stroke-linecap: round; }
.day-line.high { stroke: var(--very-high); } .day-line.low { stroke: var(--low); }
.too-high { fill: var(--high); opacity: 0.45; } .too-low { fill: var(--low); opacity: 0.5; }
.very-high { fill: var(--very-high); background: var(--very-high); }
.high { fill: var(--high); background: var(--high); }
.in-range { fill: var(--in-range); background: var(--in-range); }
.low { fill: var(--low); background: var(--low); } .very-low { fill: var(--very-low); background: var(--very-low); }
path.day-line { fill: none; background: none; }
.glance { display: grid; grid-template-columns: 64px minmax(300px, 1.15fr) minmax(280px, 1fr); gap: 20px 26px;
  align-items: start; margin-bottom: 8px; }
.pair { display: grid; grid-template-columns: 1.6fr 1fr; gap: 18px 40px; align-items: start; }
.pair.even { grid-template-columns: 1fr 1fr; margin-top: 20px; }
.key { display: flex; flex-wrap: wrap; gap: 10px 44px; margin: 0 0 22px; }
.key > div { display: flex; flex-direction: column-reverse; }
.key dd { margin: 0; font-size: 32px; font-weight: 650; line-height: 1.15; letter-spacing: -0.02em; }
.key dt { color: var(--soft); font-size: 13px; }
.key .of { font-size: 15px; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.key > div:first-child dd { color: var(--limit); }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; font-size: 14px; padding-bottom: 6px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); font-weight: 400;
  vertical-align: baseline; }
thead th { color: var(--soft); font-size: 12px; }
tbody tr:last-child > * { border-bottom: 0; }
td.n, th.n { text-align: right; padding-right: 0; padding-left: 10px; white-space: nowrap; }
td.value { font-weight: 600; }
td.goal, .soft { color: var(--soft); font-size: 13px; white-space: nowrap; }
.range-in > * { font-weight: 650; }
.days { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: repeat(7, 1fr); gap: 14px 12px; }
.days .day-name { font-size: 12px; color: var(--soft); }
.days .day-share { font-size: 12px; font-weight: 600; float: right; }
.days svg { border-bottom: 1px solid var(--line); }
.nothing { color: var(--soft); font-size: 12px; border-bottom: 1px solid var(--line); padding: 22px 0;
  text-align: center; opacity: 0.7; }
.wide { overflow-x: auto; }
.counts td.c { text-align: center; padding: 3px; border-bottom: 0; min-width: 26px; }
.counts th.c { text-align: center; padding: 3px; }
.counts td.c span { display: block; border-radius: 5px; padding: 2px 0; }
.counts tbody tr > * { border-bottom: 0; }
.counts .group th { font-weight: 600; font-size: 13px; padding-top: 14px; color: var(--ink); }
.priority { font-size: 11px; border: 1px solid var(--line); border-radius: 9px; padding: 0 7px; color: var(--soft); }
.priority.is-high { border-color: var(--very-low); color: var(--very-low); font-weight: 600; }
.priority.is-medium { border-color: var(--very-high); }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--soft); font-size: 13px; }
details table { margin-top: 8px; font-size: 13px; }
footer { color: var(--soft); font-size: 13px; padding: 6px 4px; }
footer p { margin-top: 6px; }
@media screen and (max-width: 760px) {
  main { padding: 20px 12px; } section { padding: 18px 16px; }
  .glance { grid-template-columns: 44px 1fr; } .glance > :nth-child(3) { grid-column: 1 / -1; }
  .days { grid-template-columns: repeat(3, 1fr); } .days .blank { display: none; }
  .mark { text-align: left; } .chart { overflow-x: auto; } .chart svg { min-width: 640px; }
  .pair, .pair.even { grid-template-columns: 1fr; }
}
@page { size: A4; margin: 12mm; }
@media print {
  body { background: #fff; font-size: 11px; }
  main { max-width: none; padding: 0; }
  section { border: 0; border-radius: 0; padding: 0 0 10px; margin-bottom: 10px; border-bottom: 1px solid var(--line); }
  .glance { grid-template-columns: 46px 1.15fr 1fr; gap: 14px; } .pair { grid-template-columns: 1.6fr 1fr; }
  .pair.even { grid-template-columns: 1fr 1fr; } .key dd { font-size: 22px; } h1 { font-size: 22px; }
  h2 { font-size: 15px; margin-bottom: 8px; } h3 { margin: 14px 0 6px; }
  h3, caption, .counts .group th { font-size: 11.5px; }
  td.goal, .soft, .note, .mark, header p, figcaption, footer, .key dt, thead th { font-size: 10px; }
  .days .day-name, .days .day-share { font-size: 9px; } .axis { font-size: 13px; } .priority { font-size: 9px; }
  .days { grid-template-columns: repeat(7, 1fr); gap: 8px; }
  .days .blank { display: block; }
  figure, tr, .days li, .glance, .brief { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  details { display: none; }
  th, td { padding-top: 2px; padding-bottom: 2px; }
}
""")
