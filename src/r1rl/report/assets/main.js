// Puts the page together: controls, charts by section, completions, theme.
function pressed(text, on, act, extra = {}) {
  return el('button', { type: 'button', 'aria-pressed': String(on), onclick: act, ...extra }, text);
}

function controls() {
  const root = document.getElementById('controls');
  const parts = [];
  if (DATA.stages.length > 1) {
    parts.push(el('div', { class: 'tabs', role: 'group', 'aria-label': 'Stage' }, ...DATA.stages.map((stage) => pressed(stage.name, stage.name === view.stage, () => {
      view.stage = stage.name;
      show();
      focusOn(stage.name);
    }))));
  }
  if (DATA.runs.length > 1) {
    parts.push(el('div', { class: 'tabs', role: 'group', 'aria-label': 'Runs shown' }, ...DATA.runs.map((run, i) => {
      const series = DATA.series.findIndex((s) => s.runs.includes(i));
      return pressed(run.name, !view.hidden.has(i), () => {
        if (view.hidden.has(i)) view.hidden.delete(i); else view.hidden.add(i);
        show();
        focusOn(run.name);
      }, DATA.series.length > 1 ? { 'data-series': series % 8 } : {});
    })));
  }
  const slider = el('input', { type: 'range', min: 0, max: 0.95, step: 0.05, value: view.smoothing, oninput: (event) => { view.smoothing = Number(event.target.value); charts(); } });
  parts.push(el('label', {}, 'Smoothing', slider));
  root.replaceChildren(...parts);
}

function focusOn(text) {
  const again = [...document.querySelectorAll('#controls button')].find((button) => button.textContent === text);
  if (again) again.focus();
}

function charts() {
  const root = document.getElementById('charts');
  const stage = DATA.stages.find((s) => s.name === view.stage);
  for (const chart of view.charts) chart.plot().destroy();
  root.replaceChildren();
  view.charts = [];
  if (!stage) {
    root.append(el('p', { class: 'nothing' }, 'No stage has logged a metric yet.'));
    return;
  }
  const grids = new Map();
  for (const panel of stage.panels) {
    for (const chart of chartsOf(panel)) {
      if (!(chart.series || chart.lines).length) continue;
      if (!grids.has(chart.section)) {
        const grid = el('div', { class: chart.section === 'Learning' ? 'charts large' : 'charts' });
        grids.set(chart.section, grid);
        root.append(el('h3', {}, chart.section), grid);
      }
      const made = chart.kind === 'shares' ? shareChart(chart) : lineChart(chart);
      grids.get(chart.section).append(made.node);
      view.charts.push(made);
    }
  }
  for (const chart of view.charts) chart.draw();
}

function show() {
  controls();
  charts();
}

function theme() {
  const order = { '': 'dark', dark: 'light', light: '' };
  const names = { '': 'Theme: system', dark: 'Theme: dark', light: 'Theme: light' };
  const button = document.getElementById('theme');
  const set = (value) => {
    if (value) document.documentElement.dataset.theme = value; else delete document.documentElement.dataset.theme;
    button.textContent = names[value];
  };
  button.addEventListener('click', () => {
    set(order[document.documentElement.dataset.theme || '']);
    charts();
  });
  set('');
}

const longest = Math.max(0, ...DATA.runs.map((run) => (run.stages[view.stage] ? run.stages[view.stage].steps.length : 0)));
view.smoothing = longest > 100 ? 0.6 : 0;
show();
theme();
completions();

function resize(width) {
  for (const chart of view.charts) chart.plot().setSize({ width: width || widthOf(chart.node), height: HEIGHT });
}

let resizing = 0;
window.addEventListener('resize', () => {
  clearTimeout(resizing);
  resizing = setTimeout(resize, 120);
});
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', charts);
// On paper all charts have one width, and the colours of the light theme.
let chosen = '';
window.addEventListener('beforeprint', () => {
  chosen = document.documentElement.dataset.theme || '';
  document.documentElement.dataset.theme = 'light';
  charts();
  resize(340);
});
window.addEventListener('afterprint', () => {
  if (chosen) document.documentElement.dataset.theme = chosen; else delete document.documentElement.dataset.theme;
  charts();
});
document.documentElement.dataset.ready = 'true';
