// The page: one subscription, and one or two subscribers that follow it, so that what differs
// between them is who they are.
import { demo } from './host.js';
import { Pane } from './pane.js';
import { selected, tableOf, toggle, write } from './selection.js';
import { make } from './view.js';

const $ = (id) => document.getElementById(id);
const url = new URL('graphql', location.href);
url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
url.search = url.hash = '';

const panes = [];
let offline = false;
let tables = new Map(); // what the first side may see
let text = ''; // what is subscribed to
let users, writes; // in the demo

// ---- the subscription ----

function learned(pane, found, problem) {
  if (pane !== panes[0]) return;
  if (!found) {
    $('table-hint').textContent = `The schema cannot be read (${problem}): write the text by hand.`;
    return;
  }
  tables = found;
  const select = $('table');
  const names = [...tables.keys()];
  select.replaceChildren(...names.map((name) => make('option', { text: name })));
  select.disabled = names.length === 0;
  if (names.length === 0) {
    $('table-hint').textContent = 'There is no table that this role may read and that says @subscribe in its comment.';
    $('columns').replaceChildren();
    return;
  }
  if (!text) {
    choose(demo && tables.has('tasks') ? 'tasks' : names[0]);
  } else {
    offer();
  }
}

// choose begins with another table.
function choose(name) {
  $('text').value = write(tables.get(name));
  follow();
}

// follow subscribes all sides to the text as it stands.
function follow() {
  text = $('text').value;
  $('text-error').textContent = '';
  for (const pane of panes) pane.follow(text, tables.get(tableOf(text)));
  offer();
}

// offer brings table, columns and button in line with the text.
function offer() {
  const current = $('text').value;
  const table = tables.get(tableOf(current));
  if (table) $('table').value = table.name;
  else $('table').selectedIndex = -1;
  $('table-hint').textContent = table?.description ?? '';
  $('apply').disabled = current === text;
  const chosen = selected(current);
  const names = (table?.columns ?? []).map(({ name }) => name);
  if ($('columns').dataset.names !== names.join()) {
    $('columns').dataset.names = names.join();
    $('columns').replaceChildren(...(table?.columns ?? []).map(chip));
  }
  for (const box of $('columns').querySelectorAll('input')) {
    box.checked = chosen?.has(box.value) ?? false;
    box.disabled = !chosen || box.checked && chosen.size === 1; // a selection is never empty
  }
}

function chip(column) {
  const box = make('input', { type: 'checkbox', value: column.name });
  box.onchange = () => {
    $('text').value = toggle($('text').value, column, box.checked);
    follow();
  };
  return make('label', { title: [column.scalar, column.description].filter(Boolean).join(': ') }, box, make('span', { text: column.name }));
}

function failed(pane, errors) {
  const [first] = errors;
  if (!first || pane !== panes[0]) return;
  const at = first.locations?.[0];
  $('text-error').textContent = at ? `Line ${at.line}, column ${at.column}: ${first.message}` : '';
}

// ---- the subscribers ----

function add() {
  const pane = new Pane({
    url: url.href, onschema: learned, onerror: failed,
    onrefused: refused,
    onchange: () => writes && later(offerTasks),
    onpick: (row) => {
      if (!writes || tableOf(text) !== 'tasks') return;
      offerTasks();
      writes.pick(row);
    },
  });
  panes.push(pane);
  $('panes').append(pane.element);
  if (users) askUser(pane);
  else askToken(pane);
  if (!users) panes.forEach((each, i) => each.call(panes.length > 1 ? `subscriber ${i + 1}` : 'this subscriber'));
  arrange();
}

function arrange() {
  $('panes').dataset.count = panes.length;
  $('compare').setAttribute('aria-pressed', String(panes.length > 1));
}

function askUser(pane) {
  pane.who.replaceChildren(document.getElementById('who-demo').content.cloneNode(true));
  const select = pane.who.querySelector('select');
  select.replaceChildren(...users.map(({ name }) => make('option', { text: name })));
  select.selectedIndex = panes.indexOf(pane) % users.length;
  select.onchange = () => enter(pane);
  enter(pane);
}

// enter connects a side as the user that is chosen there.
function enter(pane) {
  const name = pane.who.querySelector('select').value;
  const user = users.find((each) => each.name === name);
  pane.call(name);
  pane.user = name;
  pane.who.querySelector('.teams').textContent = user.teams.join(', ');
  begin(pane, user.token);
}

function askToken(pane) {
  pane.who.replaceChildren(document.getElementById('who-token').content.cloneNode(true));
  const form = pane.who.querySelector('form');
  const input = form.querySelector('input');
  input.oninput = () => { pane.who.querySelector('.claims').textContent = claims(input.value); };
  form.onsubmit = (event) => {
    event.preventDefault();
    const token = input.value.trim().replace(/^Bearer\s+/i, '');
    const same = pane.refused && pane.token && says(pane.token) === says(token);
    same ? renew(pane, token) : begin(pane, token);
  };
}

// renew goes on behind the cursor, with a token that says the same of its subscriber.
function renew(pane, token) {
  if (offline) setOffline(false);
  pane.token = token;
  pane.renew(token);
}

function begin(pane, token) {
  if (offline) setOffline(false);
  pane.token = token;
  if (text) pane.follow(text, tables.get(tableOf(text)));
  pane.connect(token);
}

// decode gives the claims of a token.
function decode(token) {
  const bytes = Uint8Array.from(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

// says is what a token says of its subscriber, beside when it was made and ends.
function says(token) {
  try {
    const { exp, iat, nbf, jti, ...rest } = decode(token);
    return JSON.stringify(Object.entries(rest).sort());
  } catch {
    return token;
  }
}

// claims is what a token says of itself; only the service can tell whether it is true.
function claims(token) {
  if (!token.trim()) return 'It stays in this page’s memory, and goes to this service alone.';
  try {
    const { exp, ...rest } = decode(token);
    const until = exp ? `${exp * 1000 < Date.now() ? 'expired' : 'until'} ${new Date(exp * 1000).toLocaleString()}` : '';
    return [...Object.entries(rest).map(([name, value]) => `${name}: ${typeof value === 'object' ? JSON.stringify(value) : value}`), until]
      .filter(Boolean).slice(0, 6).join(' · ');
  } catch {
    return 'This does not look like a token.';
  }
}

// refused: a demo gives new tokens, where the old ones have expired (4403) or it was started anew.
let renewing;
async function refused(pane, { code }) {
  if (!users) return;
  renewing ??= import('./demo.js').then(({ session }) => session())
    .then((fresh) => { users = fresh.users; }, () => {}) // the refusal stands in the side already
    .finally(() => { renewing = undefined; });
  await renewing;
  const token = users.find(({ name }) => name === pane.user)?.token;
  if (token === pane.token) return;
  code === 4403 ? renew(pane, token) : enter(pane);
}

// ---- all of it ----

function setOffline(on) {
  offline = on;
  $('offline').setAttribute('aria-pressed', String(on));
  $('offline').textContent = on ? 'Go online' : 'Go offline';
}

let soon;
function later(f) {
  soon ??= setTimeout(() => { soon = undefined; f(); }, 200);
}

function offerTasks() {
  if (tableOf(text) !== 'tasks') return;
  writes.offer(panes.flatMap(({ rows }) => [...rows.values()]));
}

$('table').onchange = ({ target }) => choose(target.value);
$('text').oninput = offer;
$('text').onkeydown = (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('text-form').requestSubmit($('apply').disabled ? undefined : $('apply'));
};
$('text-form').onsubmit = (event) => {
  event.preventDefault();
  follow();
};
$('compare').onclick = () => {
  if (panes.length < 2) add();
  else panes.pop().close();
  arrange();
};
$('offline').onclick = () => {
  setOffline(!offline);
  for (const pane of panes) offline ? pane.leave() : pane.resume();
};
addEventListener('online', () => panes.forEach((pane) => pane.hurry()));
document.addEventListener('visibilitychange', () => { if (!document.hidden) panes.forEach((pane) => pane.hurry()); });

const roomy = matchMedia('(min-width: 60rem)');
$('text-details').open = roomy.matches;
if (demo) {
  try {
    const { session, Writes } = await import('./demo.js');
    const fresh = await session();
    users = fresh.users;
    writes = new Writes(fresh);
  } catch ({ message }) {
    $('table-hint').textContent = message;
  }
}
add();
if (users && roomy.matches) add();
if (!users) begin(panes[0], '');
