// Line charts with a shared crosshair. One chart: lines of {label, color, members: [{steps, values, low, high}]}.
const HEIGHT = 190;
const PAD = { left: 46, right: 10, top: 8, bottom: 22 };

const view = {
  stage: DATA.interest || (DATA.stages[0] && DATA.stages[0].name),
  smoothing: 0,
  hidden: new Set(),
  charts: [],
};

function ticks(low, high, count) {
  const span = high - low || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-6; t += step) found.push(Number(t.toPrecision(12)));
  return found;
}

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

function lineOf(label, tint, runs, metric) {
  let members = runs.map((run) => memberOf(run, metric)).filter(Boolean);
  if (!members.length) return null;
  const sparse = members.every((m) => m.values.filter((v) => v !== null).length <= 30);
  const weight = sparse ? 0 : view.smoothing;
  const raw = members;
  members = members.map((m) => ({ ...m, values: smooth(m.values, weight) }));
  const main = members.length > 1 ? combine(members) : members[0];
  const points = main.steps.map((step, i) => [step, main.values[i]]).filter((p) => p[1] !== null);
  return {
    label, color: tint, metric, sparse, points,
    faint: members.length > 1 ? members : (weight ? raw : []),
    band: main.low && main.high && (members.length > 1 || !weight) ? main : null,
  };
}

// The charts of one panel: one, or one a metric where several experiments are compared.
function chartsOf(panel) {
  const series = DATA.series
    .map((s, i) => ({ label: s.label, color: color(i), runs: s.runs.filter((r) => !view.hidden.has(r)) }))
    .filter((s) => s.runs.length);
  if (panel.kind === 'shares') return [{ ...panel, series }];
  if (DATA.series.length === 1) {
    const lines = panel.lines.map((l, i) => lineOf(l.label, color(i), series.flatMap((s) => s.runs), l.metric));
    return [{ ...panel, lines: lines.filter(Boolean) }];
  }
  return panel.lines.map((l) => ({
    ...panel,
    title: panel.lines.length > 1 ? `${panel.title}: ${l.label}` : panel.title,
    lines: series.map((s) => lineOf(s.label, s.color, s.runs, l.metric)).filter(Boolean),
  }));
}

function range(chart) {
  let low = chart.low === null ? Infinity : chart.low;
  let high = chart.high === null ? -Infinity : chart.high;
  let first = Infinity;
  let last = -Infinity;
  for (const line of chart.lines) {
    const shown = [line.points.map((p) => p[1]), ...line.faint.map((m) => m.values)];
    if (line.band) shown.push(line.band.low, line.band.high);
    for (const values of shown) for (const v of values) if (v !== null) { low = Math.min(low, v); high = Math.max(high, v); }
    for (const [step] of line.points) { first = Math.min(first, step); last = Math.max(last, step); }
  }
  if (!(low < high)) {
    const spread = Math.abs(low) || 1;
    if (chart.low === null) low -= spread / 2;
    high += spread / 2;
  } else {
    if (chart.high === null || high > chart.high) high += (high - low) * 0.04;
    if (chart.low === null || low < chart.low) low -= (high - low) * 0.04;
  }
  return { low, high, first, last: last > first ? last : first + 1 };
}

function path(steps, values, x, y) {
  let d = '';
  let pen = false;
  steps.forEach((step, i) => {
    if (values[i] === null) return;
    d += `${pen ? 'L' : 'M'}${x(step).toFixed(1)} ${y(values[i]).toFixed(1)}`;
    pen = true;
  });
  return d;
}

function bandPath(band, x, y) {
  const there = band.steps.map((step, i) => [step, band.low[i], band.high[i]]).filter((b) => b[1] !== null && b[2] !== null);
  const up = there.map((b) => `${x(b[0]).toFixed(1)} ${y(b[2]).toFixed(1)}`);
  const down = there.reverse().map((b) => `${x(b[0]).toFixed(1)} ${y(b[1]).toFixed(1)}`);
  return up.length ? `M${[...up, ...down].join('L')}Z` : '';
}

function axes(root, width, scale, x, y, share) {
  const lines = ticks(scale.low, scale.high, 4).filter((t) => t >= scale.low && t <= scale.high);
  for (const t of lines) {
    root.append(svg('line', { class: 'grid', x1: PAD.left, x2: width - PAD.right, y1: y(t), y2: y(t) }));
    root.append(svg('text', { x: PAD.left - 6, y: y(t) + 4, 'text-anchor': 'end' }, share ? `${Number((100 * t).toFixed(2))} %` : number(t)));
  }
  const steps = ticks(scale.first, scale.last, Math.max(4, Math.floor(width / 85))).filter((t) => Number.isInteger(t));
  for (const t of steps) {
    const anchor = x(t) > width - 30 ? 'end' : 'middle';
    root.append(svg('text', { x: Math.min(x(t), width - 2), y: HEIGHT - 5, 'text-anchor': anchor }, t.toLocaleString('en')));
  }
}

function drawLines(chart, width) {
  const scale = range(chart);
  const x = (step) => PAD.left + ((step - scale.first) / (scale.last - scale.first)) * (width - PAD.left - PAD.right);
  const y = (value) => HEIGHT - PAD.bottom - ((value - scale.low) / (scale.high - scale.low)) * (HEIGHT - PAD.top - PAD.bottom);
  const root = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, tabindex: 0, role: 'img', 'aria-label': described(chart) });
  axes(root, width, scale, x, y, chart.unit === 'share');
  for (const line of chart.lines) {
    if (line.band) root.append(svg('path', { class: 'band', d: bandPath(line.band, x, y), color: line.color }));
    for (const m of line.faint) {
      root.append(svg('path', { d: path(m.steps, m.values, x, y), stroke: line.color, 'stroke-width': 1, opacity: 0.3 }));
    }
  }
  for (const line of chart.lines) {
    root.append(svg('path', { d: path(line.points.map((p) => p[0]), line.points.map((p) => p[1]), x, y), stroke: line.color, 'stroke-width': 2 }));
    if (line.sparse) for (const [step, v] of line.points) root.append(svg('circle', { cx: x(step), cy: y(v), r: 3, fill: line.color }));
  }
  const cross = svg('line', { class: 'cross', y1: PAD.top, y2: HEIGHT - PAD.bottom, visibility: 'hidden' });
  root.append(cross);
  return { root, x, cross, scale, unscale: (px) => scale.first + ((px - PAD.left) / (width - PAD.left - PAD.right)) * (scale.last - scale.first) };
}

function described(chart) {
  const parts = chart.lines.map((line) => {
    const [first, last] = [line.points[0], line.points[line.points.length - 1]];
    return first ? `${line.label}: ${measured(first[1], chart.unit)} at step ${first[0]}, ${measured(last[1], chart.unit)} at step ${last[0]}` : line.label;
  });
  return `${chart.title}${chart.unit ? ` in ${chart.unit}` : ''}. ${parts.join('. ')}. Arrow keys read values.`;
}

function nearest(line, step) {
  let best = null;
  for (const point of line.points) if (best === null || Math.abs(point[0] - step) < Math.abs(best[0] - step)) best = point;
  return best;
}

function card(chart) {
  const newest = chart.kind === 'lines' && chart.lines.length === 1 && chart.lines[0].points.length
    ? measured(chart.lines[0].points[chart.lines[0].points.length - 1][1], chart.unit) : '';
  const unit = ['loss', 'share', 'ratio', 'norm'].includes(chart.unit) ? '' : chart.unit;
  const label = [newest, unit].filter(Boolean).join(' ');
  return el('article', { class: 'chart' }, el('h4', {}, chart.title, el('span', {}, label)), el('p', {}, chart.hint));
}

function lineChart(chart) {
  const node = card(chart);
  const tip = el('div', { class: 'tip', hidden: true });
  let drawn = null;
  let at = null;
  function draw(width) {
    const next = drawLines(chart, width || Math.max(260, node.clientWidth - 34));
    if (drawn) drawn.root.replaceWith(next.root); else node.append(next.root);
    drawn = next;
    drawn.root.addEventListener('pointermove', (event) => {
      const box = drawn.root.getBoundingClientRect();
      point(drawn.unscale(((event.clientX - box.left) / box.width) * drawn.root.viewBox.baseVal.width), false);
    });
    drawn.root.addEventListener('pointerleave', () => point(null, false));
    drawn.root.addEventListener('blur', () => point(null, false));
    drawn.root.addEventListener('keydown', key);
  }
  function point(step, speak) {
    for (const other of view.charts) other.cross(step);
    const found = step === null ? [] : chart.lines.map((line) => [line, nearest(line, step)]).filter((f) => f[1]);
    tip.hidden = !found.length;
    if (!found.length) { at = null; return; }
    at = found[0][1][0];
    const rows = found.map(([line, p]) => `${found.length > 1 ? `${line.label} ` : ''}${measured(p[1], chart.unit)}`);
    tip.replaceChildren(el('b', {}, `step ${at.toLocaleString('en')}`), ...found.map(([line], i) => el('div', {}, el('span', { class: 'swatch', color: line.color }), ` ${rows[i]}`)));
    const left = drawn.x(at) + 26;
    tip.style.top = `${drawn.root.getBoundingClientRect().top - node.getBoundingClientRect().top + 8}px`;
    tip.style.left = left > node.clientWidth / 2 ? '' : `${left}px`;
    tip.style.right = left > node.clientWidth / 2 ? `${node.clientWidth - left + 24}px` : '';
    if (speak) announce(`step ${at}: ${rows.join(', ')}`);
  }
  function key(event) {
    const steps = chart.lines[0].points.map((p) => p[0]);
    const here = at === null ? -1 : steps.indexOf(at);
    const by = event.shiftKey ? 10 : 1;
    const moves = { ArrowRight: here + by, ArrowLeft: at === null ? steps.length - 1 : here - by, Home: 0, End: steps.length - 1 };
    if (event.key === 'Escape') { point(null, false); return; }
    if (!(event.key in moves)) return;
    event.preventDefault();
    point(steps[Math.min(steps.length - 1, Math.max(0, moves[event.key]))], true);
  }
  function cross(step) {
    const inside = step !== null && step >= drawn.scale.first && step <= drawn.scale.last;
    drawn.cross.setAttribute('visibility', inside ? 'visible' : 'hidden');
    if (inside) { drawn.cross.setAttribute('x1', drawn.x(step)); drawn.cross.setAttribute('x2', drawn.x(step)); }
  }
  node.append(tip);
  if (chart.lines.length > 1) node.append(legend(chart.lines));
  return { node, draw: (width) => { draw(width); const key = node.querySelector('.legend'); if (key) node.append(key); }, cross };
}

function legend(lines) {
  return el('div', { class: 'legend' }, ...lines.map((line) => el('span', {}, el('span', { class: 'swatch', color: line.color }), line.label)));
}

// Shares of a step's time: columns over the steps of one experiment, or one bar each of several.
function shareChart(chart) {
  const node = card(chart);
  const parts = chart.lines.map((l, i) => ({ label: l.label, metric: l.metric, color: color(i) }));
  parts.push({ label: 'rest', metric: null, color: 'var(--s7)' });
  const single = chart.series.length === 1;
  const columns = single ? stretches(chart.series[0].runs, parts, 24)
    : chart.series.map((s) => ({ ...stretches(s.runs, parts, 1)[0], label: s.label }));
  const totals = parts.map((_, i) => columns.reduce((sum, c) => sum + c.shares[i], 0) / (columns.length || 1));
  const kept = parts.filter((_, i) => totals[i] > 0.0005);
  function draw(given) {
    const old = node.querySelector('svg');
    const width = given || Math.max(260, node.clientWidth - 34);
    const root = single ? drawColumns(columns, parts, width) : drawBars(columns, parts, width);
    const text = parts.map((p, i) => `${p.label} ${Math.round(100 * totals[i])} %`).join(', ');
    root.setAttribute('aria-label', `${chart.title}: ${text}`);
    if (old) old.replaceWith(root); else node.append(root);
    const key = node.querySelector('.legend');
    node.append(key || el('div', { class: 'legend' }, ...kept.map((p) => el('span', {}, el('span', { class: 'swatch', color: p.color }), `${p.label} ${(100 * totals[parts.indexOf(p)]).toFixed(0)} %`))));
  }
  return { node, draw, cross() {} };
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

function drawColumns(columns, parts, width) {
  const root = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, role: 'img' });
  const bottom = HEIGHT - PAD.bottom;
  const each = (width - PAD.left - PAD.right) / (columns.length || 1);
  for (const t of [0, 0.5, 1]) {
    const y = bottom - t * (bottom - PAD.top);
    root.append(svg('text', { x: PAD.left - 6, y: y + 4, 'text-anchor': 'end' }, `${100 * t} %`));
  }
  columns.forEach((column, c) => {
    let top = bottom;
    column.shares.forEach((share, i) => {
      const height = share * (bottom - PAD.top);
      top -= height;
      root.append(svg('rect', { x: PAD.left + c * each + 0.5, y: top, width: Math.max(0.5, each - 1), height, fill: parts[i].color }));
    });
    if (c % Math.ceil(columns.length / 5) === 0) root.append(svg('text', { x: PAD.left + c * each, y: HEIGHT - 5 }, column.label));
  });
  return root;
}

function drawBars(columns, parts, width) {
  const root = svg('svg', { viewBox: `0 0 ${width} ${Math.max(40, columns.length * 44)}`, role: 'img' });
  columns.forEach((column, c) => {
    let left = 0;
    root.append(svg('text', { x: 0, y: c * 44 + 12 }, column.label));
    column.shares.forEach((share, i) => {
      root.append(svg('rect', { x: left, y: c * 44 + 18, width: share * width, height: 16, fill: parts[i].color }));
      left += share * width;
    });
  });
  return root;
}
