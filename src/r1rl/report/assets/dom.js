// Builds elements. Text only ever enters the page as text: nothing here, or in the other files, parses markup.
const DATA = JSON.parse(document.getElementById('data').textContent);

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function number(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size >= 10000) return Math.round(value).toLocaleString('en');
  if (size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function measured(value, unit) {
  if (unit !== 'share' || value === null || value === undefined) return number(value);
  return `${Number((100 * value).toPrecision(3))} %`;
}

function announce(text) {
  document.getElementById('live').textContent = text;
}
