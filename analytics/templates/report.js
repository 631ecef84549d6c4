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
  // Numbers arrive as exact text; a float only decides their order.
  const grouped = (digits, places) => {
    const minus = digits.startsWith('-');
    const [whole, fraction = ''] = digits.replace('-', '').split('.');
    const padded = fraction.padEnd(places, '0');
    const zero = !/[1-9]/.test(digits);
    const text = whole.replace(/\B(?=(\d{3})+$)/g, ',') + (padded ? `.${padded}` : '');
    return {text, sign: zero ? 0 : minus ? -1 : 1};
  };
  const amount = (digits, places, signed) => {
    const {text, sign} = grouped(digits, places);
    const tone = ['negative', 'zero', 'positive'][sign + 1];
    const before = sign < 0 ? '\u2212' : sign > 0 && signed ? '+' : '';
    return make('span', before + text, {class: `amount ${tone}${signed ? ' signed' : ''}`});
  };
  const plain = (digits) => {
    const {text, sign} = grouped(digits, 0);
    return (sign < 0 ? '\u2212' : '') + text;
  };
  const named = (text) => make('bdi', text, {class: 'name', title: text});
  const cell = (tag, attributes, ...parts) => {
    const element = make(tag, '', attributes);
    for (const [place, lines] of parts.entries()) {
      if (place) element.append(make('br', ''));
      element.append(...[lines].flat());
    }
    return element;
  };
  const shortTrace = (id) => `${id.slice(0, 6)}\u2026${id.slice(22).replace(/^0+/, '').padStart(4, '0')}`;
  const iconOf = () => {
    const icon = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    icon.setAttribute('class', 'icon');
    icon.setAttribute('aria-hidden', 'true');
    const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
    use.setAttribute('href', '#icon-copy');
    icon.append(use);
    return icon;
  };
  const traceOf = (id, portfolio, {viewers, places}) => {
    const parts = [];
    if (document.getElementById(`trace-${id}`)) {
      parts.push(make('a', shortTrace(id), {class: 'trace', href: `#trace-${id}`, title: `Trace ${id}, shown in this page`}));
    } else {
      const command = `${showTrace} ${id}`;
      const button = make('button', '', {type: 'button', class: 'copy trace', 'data-copy': command, title: `Copy: ${command}`});
      button.append(make('span', shortTrace(id)), iconOf(), make('span', ' copy command', {class: 'unseen'}));
      parts.push(button);
    }
    for (const [viewer, url] of viewers) {
      const href = url.replaceAll(places[0], id).replaceAll(places[1], encodeURIComponent(portfolio));
      const link = make('a', '', {class: 'viewer', href, target: '_blank', rel: 'noopener noreferrer', title: `Trace ${id} in ${viewer}`});
      link.append(make('span', '\u2197', {'aria-hidden': 'true'}), make('span', `open in ${viewer}`, {class: 'unseen'}));
      parts.push(' ', link);
    }
    return parts;
  };

  const inflated = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    return JSON.parse(await new Response(stream).text());
  };
  const timeOf = (seconds, nanoseconds) => {
    const iso = new Date(seconds * 1000).toISOString();
    const below = nanoseconds ? `.${String(nanoseconds).padStart(9, '0')}`.replace(/0+$/, '') : '';
    const text = iso.slice(0, 19).replace('T', ' ') + below;
    return make('time', text, {datetime: iso});
  };
  const heldOf = (seconds) => {
    const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
    const size = Math.floor(Math.abs(seconds));
    const place = units.findIndex(([, unit]) => size >= unit);
    if (place < 0) return seconds ? 'under 1\u00a0s' : '0\u00a0s';
    const [name, unit] = units[place];
    const below = units[place + 1];
    const more = below ? Math.floor((size % unit) / below[1]) : 0;
    const first = `${Math.floor(size / unit).toLocaleString('en')}\u00a0${name}`;
    return (seconds < 0 ? '\u2212' : '') + first + (more ? ` ${more}\u00a0${below[0]}` : '');
  };

  // The table of trades: sorted and filtered as a whole, drawn a page at a time.
  const PAGE = 50;
  const tradesTable = async (holder) => {
    const given = JSON.parse(holder.querySelector('script').textContent);
    const data = await inflated(given.packed);
    const size = data.long.length;
    const name = (column, row) => data[column].names[data[column].codes[row]];
    const entryOf = (row) => data.prefix + data.entry[row];
    const exitOf = (row) => (data.exit[row] ? data.prefix + data.exit[row] : entryOf(row));
    const numbers = (column) => Float64Array.from(data[column], Number);
    const net = numbers('net');
    const keys = {
      symbol: (row) => `${name('symbol', row)}\n${name('strategy', row)}`, from: (row) => data.from[row],
      to: (row) => data.to[row] ?? Infinity, held: (row) => (data.to[row] ?? Infinity) - data.from[row] + ((data.to_ns?.[row] ?? 0) - (data.from_ns?.[row] ?? 0)) / 1e9,
    };
    for (const column of ['pnl', 'commission', 'net']) {
      const values = numbers(column);
      const cost = column === 'commission' ? -1 : 1;
      keys[column] = (row) => cost * values[row];
    }
    const text = Array.from({length: size}, (_, row) => [
      data.long[row] ? 'BUY LONG' : 'SELL SHORT', name('symbol', row), name('strategy', row), name('portfolio', row),
      name('currency', row), name('exit_reason', row), entryOf(row), exitOf(row),
    ].join('\n').toLowerCase());

    const form = holder.querySelector('form');
    const choice = (title, key, options) => {
      if (options.length < 3) return;
      const select = make('select', '', {name: key});
      for (const [value, words] of options) select.append(make('option', words, {value}));
      const label = make('label', `${title} `);
      label.append(select);
      form.append(label);
    };
    const byName = (column) => [['', 'all'], ...data[column].names.map((words, place) => [place, words])
      .sort((a, b) => a[1].localeCompare(b[1])).map(([place, words]) => [String(place), words || 'none'])];
    choice('Portfolio', 'portfolio', byName('portfolio'));
    choice('Strategy', 'strategy', byName('strategy'));
    choice('Symbol', 'symbol', byName('symbol'));
    choice('Currency', 'currency', byName('currency'));
    choice('Closed by', 'exit_reason', byName('exit_reason'));
    choice('Side', 'side', [['', 'all'], ['1', 'BUY'], ['0', 'SELL']]);
    choice('Result', 'result', [['', 'all'], ['win', 'gains'], ['loss', 'losses'], ['open', 'still open']]);
    form.append(make('button', 'Clear', {type: 'reset', class: 'plain'}));
    form.hidden = false;
    form.addEventListener('submit', (event) => event.preventDefault());

    const body = holder.querySelector('tbody');
    const pager = holder.querySelector('.pager');
    const matches = holder.querySelector('.matches');
    let shown = [], page = 0, sorted = null;

    const rowOfTable = (row) => {
      const places = given.digits[name('currency', row)] ?? 2;
      const portfolio = name('portfolio', row), strategy = name('strategy', row), reason = name('exit_reason', row);
      const open = data.to[row] === null;
      const who = make('span', '', {class: 'aside'});
      if (strategy) who.append(named(strategy), ' \u00b7 ');
      who.append(named(portfolio));
      const order = make('span', `${data.long[row] ? 'BUY' : 'SELL'} ${plain(data.quantity[row])} `, {class: 'order'});
      order.append(named(name('symbol', row)));
      const when = (column) => cell('span', {class: 'aside'}, timeOf(data.base + data[column][row], data[`${column}_ns`]?.[row]));
      const none = (words) => make('span', words, {class: 'none'});
      const line = document.createElement('tr');
      const commission = data.commission[row];
      const cost = commission.startsWith('-') ? commission.slice(1) : `-${commission}`;
      const traces = [[...traceOf(entryOf(row), portfolio, given), ' ', make('span', 'entry', {class: 'aside'})]];
      if (data.exit[row]) traces.push([...traceOf(exitOf(row), portfolio, given), ' ', make('span', 'exit', {class: 'aside'})]);
      const held = open ? [none('\u2013')] : [heldOf(keys.held(row)), ...(reason ? [cell('span', {class: 'aside'}, named(reason))] : [])];
      line.append(
        cell('th', {scope: 'row'}, order, who),
        cell('td', {class: 'text'}, plain(data.entry_price[row]), when('from')),
        open ? cell('td', {class: 'text'}, none('open'))
          : cell('td', {class: 'text'}, data.exit_price[row] ? plain(data.exit_price[row]) : '\u2013', when('to')),
        cell('td', {class: 'text'}, ...held),
        cell('td', {}, amount(data.pnl[row], places)),
        cell('td', {}, amount(cost, places)),
        cell('td', {class: 'total'}, amount(data.net[row], places, true), make('span', name('currency', row), {class: 'aside'})),
        cell('td', {class: 'text nowrap'}, ...traces),
      );
      return line;
    };
    const show = () => {
      const pages = Math.max(1, Math.ceil(shown.length / PAGE));
      page = Math.min(page, pages - 1);
      body.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(rowOfTable));
      const first = shown.length ? page * PAGE + 1 : 0;
      const last = Math.min(shown.length, (page + 1) * PAGE);
      matches.textContent = `${first.toLocaleString('en')} to ${last.toLocaleString('en')} of ${shown.length.toLocaleString('en')}`
        + (shown.length < size ? ` that match, of ${size.toLocaleString('en')}` : '');
      const goes = [['First', 0], ['Previous', page - 1], ['Next', page + 1], ['Last', pages - 1]];
      const held = pager.contains(document.activeElement) ? document.activeElement.textContent : '';
      pager.replaceChildren(...goes.map(([words, target]) => {
        const button = make('button', words, {type: 'button', class: 'plain'});
        button.disabled = target < 0 || target >= pages || target === page;
        button.addEventListener('click', () => { page = target; show(); });
        return button;
      }));
      [...pager.children].find((button) => button.textContent === held && !button.disabled)?.focus();
      pager.hidden = pages < 2;
    };
    const choose = () => {
      const wanted = new FormData(form);
      const words = (wanted.get('text') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
      const codes = ['portfolio', 'strategy', 'symbol', 'currency', 'exit_reason']
        .filter((column) => wanted.get(column)).map((column) => [data[column].codes, Number(wanted.get(column))]);
      const side = wanted.get('side'), result = wanted.get('result');
      shown = [];
      for (let row = 0; row < size; row += 1) {
        if (!codes.every(([column, code]) => column[row] === code)) continue;
        if (side && data.long[row] !== Number(side)) continue;
        if (result === 'win' && !(net[row] > 0)) continue;
        if (result === 'loss' && !(net[row] < 0)) continue;
        if (result === 'open' && data.to[row] !== null) continue;
        if (!words.every((word) => text[row].includes(word))) continue;
        shown.push(row);
      }
      if (sorted) {
        const key = keys[sorted.key];
        const order = sorted.down ? -1 : 1;
        shown.sort((a, b) => {
          const x = key(a), y = key(b);
          return (x < y ? -order : x > y ? order : 0) || a - b;
        });
      }
      page = 0;
      show();
    };
    form.addEventListener('input', choose);
    form.addEventListener('reset', () => setTimeout(choose));
    sortable(holder.querySelector('table'), (head, down) => {
      sorted = {key: head.dataset.sort, down};
      choose();
    });
    choose();
  };

  // Column heads become buttons; the first press sorts numbers down and names up.
  function sortable(table, sort) {
    const heads = [...table.tHead.rows[0].cells];
    for (const head of heads) {
      const words = head.textContent.trim();
      if (!words || words === 'Trace' || 'unsorted' in head.dataset) continue;
      const button = make('button', words, {type: 'button', class: 'sort', title: `Sort by ${words.toLowerCase()}`});
      head.replaceChildren(button);
      button.addEventListener('click', () => {
        const text = head.classList.contains('text') || head === heads[0];
        const was = head.getAttribute('aria-sort');
        const down = was ? was === 'ascending' : !text;
        for (const other of heads) other.removeAttribute('aria-sort');
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        sort(head, down);
      });
    }
  }
  const valueOf = (cellOfTable) => {
    const words = cellOfTable.textContent.trim();
    const number = Number(words.split(/\s/)[0].replaceAll(',', '').replace('\u2212', '-').replace('+', ''));
    return words && !Number.isNaN(number) ? number : words.toLowerCase();
  };
  for (const table of document.querySelectorAll('table.sortable')) {
    sortable(table, (head, down) => {
      const order = down ? -1 : 1;
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[head.cellIndex]), row]);
      rows.sort(([x], [y]) => {
        if (typeof x !== typeof y) return typeof x === 'number' ? -1 : 1;
        return x < y ? -order : x > y ? order : 0;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  }
  for (const holder of document.querySelectorAll('[data-trades]')) {
    drawn.push(tradesTable(holder).catch((error) => {
      holder.querySelector('.matches').textContent = 'Only the largest trades are shown: the others could not be read.';
      console.error(error);
    }));
  }
  Promise.all(drawn).then(() => { document.documentElement.dataset.charts = 'done'; });

  // "/" leads to the search, as in many programs; not while something is typed.
  addEventListener('keydown', (event) => {
    if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.('input, select, textarea')) return;
    const search = document.querySelector('[data-trades] input[type=search]');
    if (!search) return;
    event.preventDefault();
    search.focus();
  });

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
