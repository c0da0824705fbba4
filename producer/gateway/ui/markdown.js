// Markdown as elements: what is not of this little language is text, and so is all markup in it.
import { html } from './html.js';

const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*([^*]+?)\*\*|__([^_]+?)__|\*([^*\s][^*]*?)\*|(?<![\w])_([^_\s][^_]*?)_(?![\w])|\[([^\]]*)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>()"']*[^\s<>()"'.,;:!?])/;

// Links lead to the web alone, and tell it nothing of us.
const safe = (address) => {
  try {
    return ['http:', 'https:'].includes(new URL(address).protocol);
  } catch {
    return false;
  }
};
const link = (address, text) => (safe(address) ? html`<a href=${address} rel="noopener noreferrer nofollow" target="_blank">${text}</a>` : text);

export function inline(text) {
  const parts = [];
  for (let rest = text; rest; ) {
    const found = INLINE.exec(rest);
    if (!found) {
      parts.push(rest);
      break;
    }
    if (found.index) parts.push(rest.slice(0, found.index));
    const [whole, , code, strong1, strong2, em1, em2, name, address, bare] = found;
    if (code !== undefined) parts.push(html`<code>${code.trim()}</code>`);
    else if (strong1 ?? strong2) parts.push(html`<strong>${inline(strong1 ?? strong2)}</strong>`);
    else if (em1 ?? em2) parts.push(html`<em>${inline(em1 ?? em2)}</em>`);
    else if (address) parts.push(link(address, name || address));
    else parts.push(link(bare, bare));
    rest = rest.slice(found.index + whole.length);
  }
  return parts;
}

const FENCE = /^\s*(```+|~~~+)\s*([\w+-]*)/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const CELLS = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
const DASHES = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function blocks(lines) {
  const found = [];
  let at = 0;
  const until = (stops) => {
    const taken = [];
    while (at < lines.length && !stops(lines[at])) taken.push(lines[at++]);
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (!line.trim()) at++;
    else if (fence) {
      at++;
      const code = until((one) => one.trim().startsWith(fence[1]));
      at++;
      found.push(html`<pre class="code">${code.join('\n')}</pre>`);
    } else if (heading) {
      at++;
      // The page has its own headings above.
      const level = Math.min(heading[1].length + 2, 6);
      found.push(html`<${`h${level}`}>${inline(heading[2])}<//>`);
    } else if (RULE.test(line)) {
      at++;
      found.push(html`<hr />`);
    } else if (/^\s*>/.test(line)) {
      const quote = until((one) => !/^\s*>/.test(one)).map((one) => one.replace(/^\s*> ?/, ''));
      found.push(html`<blockquote>${blocks(quote)}</blockquote>`);
    } else if (ITEM.test(line)) found.push(list(until((one) => !one.trim() || (!ITEM.test(one) && !/^\s+/.test(one)))));
    else if (line.includes('|') && DASHES.test(lines[at + 1] ?? '')) {
      const [head] = [CELLS(line), (at += 2)];
      const rows = until((one) => !one.includes('|')).map(CELLS);
      found.push(html`<div class="scroll"><table><thead><tr>${head.map((cell) => html`<th scope="col">${inline(cell)}</th>`)}</tr></thead>
        <tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${inline(cell)}</td>`)}</tr>`)}</tbody></table></div>`);
    } else {
      const isOver = (one) => !one.trim() || FENCE.test(one) || HEADING.test(one) || ITEM.test(one) || /^\s*>/.test(one);
      const text = [lines[at++], ...until(isOver)].join('\n');
      found.push(html`<p>${inline(text)}</p>`);
    }
  }
  return found;
}

// Items, and those that stand deeper within them.
function list(lines) {
  const first = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= first[1].length) items.push({ text: item[3], within: [] });
    else items[items.length - 1]?.within.push(item ? line : line.trim());
  }
  const body = items.map(({ text, within }) => html`<li>${inline(text)}${within.length > 0 && blocks(within)}</li>`);
  return /\d/.test(first[2]) ? html`<ol start=${parseInt(first[2], 10)}>${body}</ol>` : html`<ul>${body}</ul>`;
}

export const Markdown = ({ text }) => html`<div class="markdown">${blocks(text.replace(/\r\n?/g, '\n').split('\n'))}</div>`;
