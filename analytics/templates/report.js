// Draws the charts from the page's inert JSON, opens the tree an address points at, copies commands.
// Text from the data reaches the page as textContent only.
'use strict';
(() => {
  const {View, Warn, compile, expressionInterpreter, logger, parse} = globalThis.fillpathVega;
  const showTrace = document.body.dataset.showTrace;
  document.documentElement.classList.add('scripted');

  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // A cell of the layer that finds the nearest point holds the point's mark, and that the row.
  const rowOf = (item) => item?.datum?.datum ?? item?.datum;

  const tip = make('div', '', {id: 'tip', role: 'tooltip', hidden: ''});
  document.body.append(tip);
  const place = (event) => {
    const {clientX, clientY} = event;
    const {width, height} = tip.getBoundingClientRect();
    const right = clientX + 14 + width < innerWidth;
    const left = right ? clientX + 14 : Math.max(4, clientX - 14 - width);
    tip.style.left = `${Math.min(left, Math.max(4, innerWidth - width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(clientY + 14, innerHeight - height - 4))}px`;
  };
  const tooltip = (titles) => (_view, event, item, value) => {
    const row = rowOf(item);
    tip.hidden = !value || !row;
    if (tip.hidden) return;
    const list = document.createElement('dl');
    for (const [field, title] of Object.entries(titles)) {
      if (row[field] !== undefined) list.append(make('dt', title), make('dd', row[field]));
    }
    tip.replaceChildren(list);
    place(event);
  };
  addEventListener('scroll', () => { tip.hidden = true; }, {passive: true, capture: true});

  // A click on a mark names its trace below the chart.
  const pick = (figure, row) => {
    const trace = row?.trace;
    if (typeof trace !== 'string') return;
    const output = figure.querySelector('.picked');
    const label = [row.when ?? row.name, row.equity ?? row.balance ?? row.total].filter(Boolean);
    output.replaceChildren(`${label.join(', ')}: `);
    if (document.getElementById(`trace-${trace}`)) {
      output.append(make('a', `trace ${trace.slice(0, 8)}`, {href: `#trace-${trace}`}));
    } else {
      const command = `${showTrace} ${trace}`;
      output.append(make('code', command), make('button', 'copy', {type: 'button', class: 'copy', 'data-copy': command}));
    }
    output.hidden = false;
  };

  const draw = async (figure) => {
    const {rows, specs, titles} = JSON.parse(figure.querySelector('script').textContent);
    const plots = figure.querySelectorAll('.plot');
    await Promise.all(specs.map(async (spec, place) => {
      const plot = plots[place];
      const labelLimit = Math.max(80, Math.min(260, plot.clientWidth * 0.32));
      const config = {axisYBand: {labelLimit}, axisYPoint: {labelLimit}};
      const vega = compile({...spec, datasets: {rows}}, {config, logger: logger(Warn)}).spec;
      const view = new View(parse(vega, null, {ast: true}), {
        container: plot, expr: expressionInterpreter, hover: true, logger: logger(Warn), renderer: 'svg',
        tooltip: tooltip(titles),
      });
      view.addEventListener('click', (_event, item) => pick(figure, rowOf(item)));
      await view.runAsync();
    }));
  };

  // Without a layout there is no width to draw to; print and hidden pages still get every chart.
  const drawn = [...document.querySelectorAll('figure[data-chart]')].map(async (figure) => {
    try {
      await draw(figure);
      figure.dataset.chart = 'drawn';
    } catch (error) {
      figure.dataset.chart = 'failed';
      figure.querySelector('.plots').replaceChildren(
        make('p', 'This chart could not be drawn; the tables hold its numbers.', {class: 'failed'}),
      );
      console.error(error);
    }
  });
  Promise.all(drawn).then(() => { document.documentElement.dataset.charts = 'done'; });

  // Links into closed trees open them.
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1)); // our anchors need no escapes
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === 'DETAILS') node.open = true;
    }
    target.scrollIntoView();
  };
  addEventListener('hashchange', reveal);
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) reveal();
  });
  if (location.hash) reveal();

  // Print everything, then leave the page as it was.
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    for (const details of opened) details.open = true;
  });
  addEventListener('afterprint', () => { for (const details of opened) details.open = false; });

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = make('textarea', '', {readonly: ''});
      field.value = text;
      document.body.append(field);
      field.select();
      const done = document.execCommand('copy');
      field.remove();
      return done;
    }
  };
  const announce = document.getElementById('announce');
  document.addEventListener('click', async (event) => {
    const button = event.target.closest?.('[data-copy]');
    if (!button) return;
    const done = await copy(button.dataset.copy);
    announce.textContent = done ? `Copied: ${button.dataset.copy}` : 'Could not copy';
    button.classList.toggle('copied', done);
    setTimeout(() => { button.classList.remove('copied'); }, 1500);
  });
})();
