// Completions over training: filters, the moments of one problem, and the texts with their tags marked.
const PAGE = 24;
const reader = { problem: '', text: '', run: '', stage: '', rule: '', finish: '', order: 'oldest', shown: PAGE };

const RULES = {
  '': ['any reward', () => true],
};
for (const name of rewardNames()) {
  RULES[`${name}+`] = [`${name} above ½`, (s) => s.rewards[name] > 0.5];
  RULES[`${name}-`] = [`${name} at most ½`, (s) => s.rewards[name] !== undefined && s.rewards[name] <= 0.5];
}

const ORDERS = {
  oldest: ['oldest first', (a, b) => a.order - b.order || a.run - b.run],
  newest: ['newest first', (a, b) => b.order - a.order || a.run - b.run],
  worst: ['lowest reward', (a, b) => (a.reward ?? 0) - (b.reward ?? 0)],
  best: ['highest reward', (a, b) => (b.reward ?? 0) - (a.reward ?? 0)],
  longest: ['longest', (a, b) => (b.length ?? b.completion.length) - (a.length ?? a.completion.length)],
};

function rewardNames() {
  return [...new Set(DATA.samples.flatMap((s) => Object.keys(s.rewards)))];
}

const moment = (s) => (s.step === null ? s.stage : `${s.stage} · step ${s.step.toLocaleString('en')}`);

function tone(sample) {
  const values = Object.values(sample.rewards);
  if (!values.length) return sample.reward === null ? '' : (sample.reward > 0.5 ? 'good' : 'bad');
  if (values.every((v) => v > 0.5)) return 'good';
  return values.some((v) => v > 0.5) ? 'warn' : 'bad';
}

function problems() {
  const found = new Map();
  for (const s of DATA.samples) {
    if (!found.has(s.problem)) found.set(s.problem, { id: s.problem, title: excerpt(s.prompt || s.problem), moments: new Set(), count: 0 });
    const one = found.get(s.problem);
    one.moments.add(moment(s));
    one.count += 1;
  }
  return [...found.values()].sort((a, b) => b.moments.size - a.moments.size);
}

function excerpt(prompt) {
  const line = prompt.split('\n').map((l) => l.trim()).filter((l) => l && !/^assistant:?$/i.test(l.replace(/<think>/g, '').trim())).pop() || prompt;
  const text = line.replace(/^\[?user\]?:?\s*/i, '').replace(/\s*Assistant:.*$/, '');
  return text.length > 80 ? `${text.slice(0, 78)}…` : text;
}

function matching() {
  const wanted = reader.text.toLowerCase();
  const kept = DATA.samples.filter((s) => (!reader.problem || s.problem === reader.problem)
    && (reader.run === '' || s.run === Number(reader.run))
    && (!reader.stage || s.stage === reader.stage)
    && (!reader.finish || s.finish === reader.finish)
    && RULES[reader.rule][1](s)
    && (!wanted || s.completion.toLowerCase().includes(wanted) || s.prompt.toLowerCase().includes(wanted)));
  return kept.sort(ORDERS[reader.order][1]);
}

const TAG = /<\/?(?:think|answer)>|\\boxed\{/g;

// The text in spans: what lies between tags is tinted, a tag out of place is marked as stray.
function highlighted(text) {
  const nodes = [];
  let open = '';
  let from = 0;
  const add = (piece, kind, mark) => {
    if (piece) nodes.push(kind || mark ? el('span', { class: [kind, mark].filter(Boolean).join(' ') }, piece) : piece);
  };
  for (const match of text.matchAll(TAG)) {
    add(text.slice(from, match.index), open, '');
    from = match.index + match[0].length;
    const kind = match[0].includes('think') ? 'thought' : 'final';
    const closes = match[0].startsWith('</');
    if (match[0].startsWith('\\')) add(match[0], open || 'final', 'tagmark');
    else if (closes === (open === kind) && (closes || !open)) {
      add(match[0], kind, 'tagmark');
      open = closes ? '' : kind;
    } else add(match[0], open, 'tagmark stray');
  }
  add(text.slice(from), open, '');
  return nodes;
}

function chips(s) {
  const values = Object.entries(s.rewards).map(([name, v]) => el('span', { class: `chip ${v > 0.5 ? 'good' : 'bad'}` }, `${name} ${number(v)}`));
  if (s.reward !== null && values.length !== 1) values.push(el('span', { class: 'chip' }, `reward ${number(s.reward)}`));
  if (s.finish === 'length') values.push(el('span', { class: 'chip warn' }, 'cut'));
  return values;
}

function completionCard(s, index) {
  const several = DATA.runs.length > 1 ? `${DATA.runs[s.run].name} · ` : '';
  const notes = [
    s.answer === null ? null : el('span', {}, `gold: ${s.answer}`),
    s.length === null ? null : el('span', {}, `${s.length.toLocaleString('en')} tokens`),
    reader.problem ? null : el('span', {}, excerpt(s.prompt || s.problem)),
  ].filter(Boolean);
  return el('article', { class: 'completion', id: `completion-${index}`, tabindex: -1 },
    el('header', {}, el('b', {}, several + moment(s)), ...chips(s)),
    el('pre', { tabindex: 0 }, ...highlighted(s.completion)),
    notes.length ? el('footer', {}, ...notes) : null);
}

function promptBox(found) {
  const strip = found.slice(0, 80).map((s, i) => el('button', {
    type: 'button',
    class: tone(s),
    'aria-label': `${moment(s)}, reward ${number(s.reward)}`,
    onclick: () => {
      if (i >= reader.shown) { reader.shown = i + 1; showCompletions(); }
      const target = document.getElementById(`completion-${i}`);
      target.scrollIntoView({ block: 'start' });
      target.focus();
    },
  }, s.step === null ? s.stage : String(s.step)));
  return el('div', { class: 'prompt' }, el('h3', {}, 'The problem'), el('pre', {}, found.map((s) => s.prompt).reduce((a, b) => (b.length > a.length ? b : a))), el('div', { class: 'moments' }, ...strip));
}

function showCompletions() {
  const found = matching();
  const parts = [el('p', { class: 'count', role: 'status' }, `${found.length.toLocaleString('en')} of ${DATA.samples.length.toLocaleString('en')} completions`)];
  if (reader.problem && found.length) parts.push(promptBox(found));
  parts.push(found.length
    ? el('div', { class: 'completions' }, ...found.slice(0, reader.shown).map(completionCard))
    : el('p', { class: 'nothing' }, 'No completion matches the filters.'));
  if (found.length > reader.shown) {
    parts.push(el('button', { class: 'more', type: 'button', onclick: () => { reader.shown += PAGE; showCompletions(); } }, `Show ${Math.min(PAGE, found.length - reader.shown)} more`));
  }
  document.getElementById('found').replaceChildren(...parts);
}

function choice(label, key, options, wide) {
  const change = (event) => { reader[key] = event.target.value; reader.shown = PAGE; showCompletions(); };
  const list = el('select', { onchange: change }, ...options.map(([value, text]) => el('option', { value, selected: reader[key] === value }, text)));
  return el('label', { class: wide ? 'wide' : null }, label, list);
}

function completions() {
  const root = document.getElementById('samples');
  if (!DATA.samples.length) {
    root.append(el('p', { class: 'nothing' }, 'No completions were kept; tracking.samples_per_step sets how many are.'));
    return;
  }
  const list = problems();
  if (list[0].moments.size > 1) reader.problem = list[0].id;
  const stages = [...new Set(DATA.samples.map((s) => s.stage))];
  const ends = [...new Set(DATA.samples.map((s) => s.finish))].filter(Boolean);
  const search = (event) => { reader.text = event.target.value; reader.shown = PAGE; showCompletions(); };
  const filters = [
    choice('Problem', 'problem', [['', `all ${list.length.toLocaleString('en')} problems`], ...list.slice(0, 300).map((p) => [p.id, `${p.title} (${p.count})`])], true),
    el('label', { class: 'wide' }, 'Contains', el('input', { type: 'search', placeholder: 'text of a prompt or completion', oninput: search })),
    choice('Reward', 'rule', Object.entries(RULES).map(([key, rule]) => [key, rule[0]])),
  ];
  if (stages.length > 1) filters.push(choice('Stage', 'stage', [['', 'every stage'], ...stages.map((s) => [s, s])]));
  if (DATA.runs.length > 1) filters.push(choice('Run', 'run', [['', 'every run'], ...DATA.runs.map((r, i) => [String(i), r.name])]));
  if (ends.length > 1) filters.push(choice('End', 'finish', [['', 'any'], ...ends.map((e) => [e, e === 'length' ? 'cut at the limit' : e])]));
  filters.push(choice('Order', 'order', Object.entries(ORDERS).map(([key, order]) => [key, order[0]])));
  root.append(el('div', { class: 'reader' }, el('form', { class: 'filters', onsubmit: (event) => event.preventDefault() }, ...filters), el('div', { id: 'found', class: 'reader' })));
  showCompletions();
}
