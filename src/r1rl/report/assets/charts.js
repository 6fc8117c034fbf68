// Charts by uPlot, with one cursor and one zoom for all of them. A chart has lines of
// {label, color, members: [{steps, values, low, high}]}, or shares of a step's time.
const HEIGHT = 190;
const CURSORS = uPlot.sync('steps');
const WHOLE = [1, 2, 5].flatMap((m) => Array.from({ length: 9 }, (_, e) => m * 10 ** e)).sort((a, b) => a - b);

const view = {
  stage: DATA.interest || (DATA.stages[0] && DATA.stages[0].name),
  smoothing: 0,
  hidden: new Set(),
  charts: [],
};

// A canvas knows no CSS variables: their values in the theme of the moment.
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const tint = (index) => ink(`--s${index % 8}`);

// Exponential moving average without the bias of its start; gaps stay gaps.
function smooth(values, weight) {
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

function memberOf(run, metric) {
  const stage = DATA.runs[run].stages[view.stage];
  if (!stage || !stage.values[metric]) return null;
  return {
    run, steps: stage.steps, values: stage.values[metric], low: stage.low[metric], high: stage.high[metric],
  };
}

// Mean, lowest and highest over the members at each step that any of them has.
function combine(members) {
  const at = new Map();
  for (const member of members) {
    member.steps.forEach((step, i) => {
      if (member.values[i] === null) return;
      if (!at.has(step)) at.set(step, []);
      at.get(step).push(member.values[i]);
    });
  }
  const steps = [...at.keys()].sort((a, b) => a - b);
  const lists = steps.map((step) => at.get(step));
  return {
    steps,
    values: lists.map((v) => v.reduce((a, b) => a + b, 0) / v.length),
    low: lists.map((v) => Math.min(...v)),
    high: lists.map((v) => Math.max(...v)),
  };
}

function lineOf(label, color, runs, metric) {
  let members = runs.map((run) => memberOf(run, metric)).filter(Boolean);
  if (!members.length) return null;
  const sparse = members.every((m) => m.values.filter((v) => v !== null).length <= 30);
  const weight = sparse ? 0 : view.smoothing;
  const raw = members;
  members = members.map((m) => ({ ...m, values: smooth(m.values, weight) }));
  const main = members.length > 1 ? combine(members) : members[0];
  const points = main.steps.map((step, i) => [step, main.values[i]]).filter((p) => p[1] !== null);
  return {
    label, color, metric, sparse, points,
    faint: members.length > 1 ? members : (weight ? raw : []),
    band: main.low && main.high && (members.length > 1 || !weight) ? main : null,
  };
}

// The charts of one panel: one, or one per metric where several experiments are compared.
function chartsOf(panel) {
  const series = DATA.series
    .map((s, i) => ({ label: s.label, color: tint(i), runs: s.runs.filter((r) => !view.hidden.has(r)) }))
    .filter((s) => s.runs.length);
  if (panel.kind === 'shares') return [{ ...panel, series }];
  if (DATA.series.length === 1) {
    const lines = panel.lines.map((l, i) => lineOf(l.label, tint(i), series.flatMap((s) => s.runs), l.metric));
    return [{ ...panel, lines: lines.filter(Boolean) }];
  }
  return panel.lines.map((l) => ({
    ...panel,
    title: panel.lines.length > 1 ? `${panel.title}: ${l.label}` : panel.title,
    lines: series.map((s) => lineOf(s.label, s.color, s.runs, l.metric)).filter(Boolean),
  }));
}

// The axis always shows the panel's lowest and highest value, and has some air where data exceeds them.
function limits(chart, least, most) {
  if (least === null) return [chart.low ?? 0, chart.high ?? 1];
  let low = chart.low === null ? least : Math.min(chart.low, least);
  let high = chart.high === null ? most : Math.max(chart.high, most);
  if (low === high) {
    const spread = Math.abs(low) || 1;
    return [chart.low === null ? low - spread / 2 : low, high + spread / 2];
  }
  const air = (high - low) * 0.04;
  if (chart.high === null || high > chart.high) high += air;
  if (chart.low === null || low < chart.low) low -= air;
  return [low, high];
}

function described(chart) {
  const parts = chart.lines.map((line) => {
    const [first, last] = [line.points[0], line.points[line.points.length - 1]];
    return first ? `${line.label}: ${measured(first[1], chart.unit)} at step ${first[0]}, ${measured(last[1], chart.unit)} at step ${last[0]}` : line.label;
  });
  return `${chart.title}${chart.unit ? ` in ${chart.unit}` : ''}. ${parts.join('. ')}. Arrow keys read values, plus and minus zoom, Escape shows all.`;
}

function card(chart) {
  const unit = ['loss', 'share', 'ratio', 'norm'].includes(chart.unit) ? '' : chart.unit;
  return el('article', { class: 'chart' }, el('h4', {}, chart.title, el('span', {}, unit)), el('p', {}, chart.hint));
}

// What every chart has in common. uPlot keeps a legend with the values under the cursor.
function options(node, x, y) {
  const axis = { stroke: ink('--muted'), font: '11px system-ui, sans-serif', ticks: { show: false } };
  return {
    width: widthOf(node),
    height: HEIGHT,
    cursor: { y: false, sync: { key: CURSORS.key, scales: ['x', null] }, hover: { skip: [null, undefined] }, points: { size: 7 } },
    axes: [
      { ...axis, size: 28, grid: { show: false }, incrs: WHOLE, ...x },
      { ...axis, size: 52, space: 34, grid: { stroke: ink('--line'), width: 1 }, ...y },
    ],
  };
}

function widthOf(node) {
  return Math.max(240, node.clientWidth - 34);
}

// Series of uPlot for the lines of a chart: bands and single runs lie below, and have no row in the legend.
function layersOf(chart) {
  const last = Math.max(...chart.lines.flatMap((line) => line.points.map((p) => p[0])));
  const layers = { tables: [], bands: [], series: [{ label: 'step', value: (u, step) => (step ?? last).toLocaleString('en') }] };
  const add = (steps, values, settings) => {
    layers.tables.push([steps, values]);
    layers.series.push({ spanGaps: true, points: { show: false }, ...settings });
  };
  for (const { band, color, faint } of chart.lines) {
    if (band) {
      layers.bands.push({ series: [layers.series.length, layers.series.length + 1], fill: `${color}29` });
      for (const edge of [band.high, band.low]) add(band.steps, edge, { class: 'quiet', stroke: 'transparent', width: 0 });
    }
    for (const member of faint) add(member.steps, member.values, { class: 'quiet', stroke: color, width: 1, alpha: 0.3 });
  }
  for (const { label, color, points, sparse } of chart.lines) {
    const newest = points.length ? points[points.length - 1][1] : null;
    const value = (u, given, index, at) => measured(at === null ? newest : given, chart.unit);
    add(points.map((p) => p[0]), points.map((p) => p[1]), { label, value, stroke: color, width: 2, points: { show: sparse, size: 6, fill: color } });
  }
  return layers;
}

function lineChart(chart) {
  const node = card(chart);
  const layers = layersOf(chart);
  let plot = null;
  function draw() {
    const percent = (u, splits) => splits.map((t) => (chart.unit === 'share' ? `${Number((100 * t).toFixed(2))} %` : number(t)));
    plot = new uPlot({
      ...options(node, { values: (u, splits) => splits.map((t) => t.toLocaleString('en')) }, { values: percent }),
      scales: { x: { time: false }, y: { range: (u, least, most) => limits(chart, least, most) } },
      series: layers.series,
      bands: layers.bands,
    }, uPlot.join(layers.tables), node);
    byKeyboard(plot, chart);
  }
  return { node, draw, plot: () => plot };
}

// Arrow keys, Home and End read the values aloud; plus and minus zoom around the step read, Escape shows all.
function byKeyboard(plot, chart) {
  const area = plot.root.querySelector('.u-wrap');
  const steps = chart.lines[0].points.map((p) => p[0]);
  let at = -1;
  function read(index) {
    at = Math.min(steps.length - 1, Math.max(0, index));
    const left = plot.valToPos(steps[at], 'x');
    plot.setCursor({ left, top: 0 });
    CURSORS.pub('mousemove', plot, left, 0, plot.over.clientWidth, plot.over.clientHeight, plot.cursor.idx);
    const rows = chart.lines.map((line) => [line, line.points.find((p) => p[0] === steps[at])]).filter((found) => found[1]);
    announce(`step ${steps[at]}: ${rows.map(([line, p]) => `${rows.length > 1 ? `${line.label} ` : ''}${measured(p[1], chart.unit)}`).join(', ')}`);
  }
  function zoom(factor) {
    const { min, max } = plot.scales.x;
    const [first, last] = [plot.data[0][0], plot.data[0][plot.data[0].length - 1]];
    const middle = at < 0 ? (min + max) / 2 : steps[at];
    const half = Math.max(1, ((max - min) * factor) / 2);
    for (const each of CURSORS.plots) each.setScale('x', { min: Math.max(first, middle - half), max: Math.min(last, middle + half) });
  }
  function leave() {
    at = -1;
    plot.setCursor({ left: -10, top: -10 });
  }
  area.tabIndex = 0;
  area.setAttribute('role', 'img');
  area.setAttribute('aria-label', described(chart));
  area.addEventListener('blur', leave);
  area.addEventListener('keydown', (event) => {
    const by = event.shiftKey ? 10 : 1;
    const reads = { ArrowRight: at + by, ArrowLeft: at < 0 ? steps.length - 1 : at - by, Home: 0, End: steps.length - 1 };
    const zooms = { '+': 0.5, '=': 0.5, '-': 2, Escape: Infinity };
    if (!(event.key in reads) && !(event.key in zooms)) return;
    event.preventDefault();
    if (event.key in reads) read(reads[event.key]); else zoom(zooms[event.key]);
    if (event.key === 'Escape') leave();
  });
}

// Shares of a step's time: columns over the steps of one experiment, or one for each of several.
function shareChart(chart) {
  const node = card(chart);
  const parts = chart.lines.map((l, i) => ({ label: l.label, metric: l.metric, color: tint(i) }));
  parts.push({ label: 'rest', metric: null, color: tint(7) });
  const columns = chart.series.length === 1 ? stretches(chart.series[0].runs, parts, 24)
    : chart.series.flatMap((s) => stretches(s.runs, parts, 1).map((column) => ({ ...column, label: s.label })));
  const totals = parts.map((_, i) => columns.reduce((sum, c) => sum + c.shares[i], 0) / (columns.length || 1));
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  let plot = null;
  function draw() {
    const upTo = (column, i) => column.shares.slice(0, i + 1).reduce((a, b) => a + b, 0);
    const stack = parts.map((part, i) => ({
      label: part.label,
      class: totals[i] > 0.0005 ? 'part' : 'quiet',
      fill: part.color,
      stroke: part.color,
      width: 0,
      points: { show: false },
      paths: uPlot.paths.bars({ size: [0.92, 60] }),
      value: (u, given, index, at) => percent(at === null ? totals[i] : columns[at].shares[i]),
    })).reverse();  // the tallest first, so that the lower ones cover it
    const places = (u, splits) => splits.map((at) => clip(columns[at] ? columns[at].label : '', columns.length));
    const settings = options(node, { values: places }, { values: (u, splits) => splits.map(percent) });
    plot = new uPlot({
      ...settings,
      cursor: { y: false, drag: { x: false }, points: { show: false } },
      scales: { x: { time: false, range: [-0.5, columns.length - 0.5] }, y: { range: [0, 1] } },
      series: [{ label: chart.series.length === 1 ? 'from step' : 'run', value: (u, at) => (at === null ? 'all' : columns[at].label) }, ...stack],
    }, [columns.map((_, at) => at), ...parts.map((_, i) => columns.map((column) => upTo(column, i))).reverse()], node);
    plot.root.classList.add('stack');
    const area = plot.root.querySelector('.u-wrap');
    area.setAttribute('role', 'img');
    area.setAttribute('aria-label', `${chart.title}: ${parts.map((p, i) => `${p.label} ${percent(totals[i])}`).join(', ')}`);
  }
  return { node, draw, plot: () => plot };
}

function clip(label, columns) {
  const most = Math.max(5, Math.floor(48 / columns));
  return label.length > most ? `${label.slice(0, most - 1)}…` : label;
}

function stretches(runs, parts, most) {
  const columns = [];
  const stages = runs.map((run) => DATA.runs[run].stages[view.stage]).filter((s) => s && s.values['time/step']);
  const length = Math.max(0, ...stages.map((s) => s.steps.length));
  const count = Math.min(most, length);
  for (let c = 0; c < count; c += 1) {
    const [from, to] = [Math.round((c * length) / count), Math.round(((c + 1) * length) / count)];
    const total = (metric) => stages.reduce((sum, s) => sum + (s.values[metric] || []).slice(from, to).reduce((a, b) => a + (b || 0), 0), 0);
    const whole = total('time/step') || 1;
    const shares = parts.map((p) => (p.metric ? total(p.metric) / whole : 0));
    const known = shares.reduce((a, b) => a + b, 0);
    shares[shares.length - 1] = Math.max(0, 1 - known);
    columns.push({ label: stages[0] ? `${stages[0].steps[from]}` : '', shares: shares.map((s) => s / Math.max(1, known)) });
  }
  return columns;
}
