// A table of many rows, of which those are drawn that are seen.
import { html, useState, useRef, useLayoutEffect } from './html.js';

const HIGH = 36;
const BEYOND = 12;

// `columns`: [{ key, name, num, cell(row) }]. `onSeen(first, last)` is told which rows are seen.
export function VirtualTable({ label, columns, rows, total, keyOf, onSeen, onOpen }) {
  const scroller = useRef(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const look = () => {
    const { scrollTop, clientHeight } = scroller.current;
    setView((before) => (before.top === scrollTop && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight }));
  };
  useLayoutEffect(() => {
    look();
    const resized = new ResizeObserver(look);
    resized.observe(scroller.current);
    return () => resized.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(view.top / HIGH) - BEYOND);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / HIGH) + BEYOND);
  useLayoutEffect(() => onSeen?.(first, last), [first, last, rows.length]);
  const pad = (count) => count > 0 && html`<tr class="pad" aria-hidden="true"><td colspan=${columns.length} style=${{ height: `${count * HIGH}px` }}></td></tr>`;
  const click = (row) => (event) => event.target.closest('a, button, input') || getSelection().toString() || onOpen?.(row);
  return html`<div class="virtual" ref=${scroller} onScroll=${look} tabindex="0" role="region" aria-label=${label}>
    <table aria-rowcount=${(total ?? rows.length) + 1}>
      <thead><tr aria-rowindex="1">${columns.map((column) => html`<th key=${column.key} scope="col" class=${column.num ? 'num' : ''}>${column.name}</th>`)}</tr></thead>
      <tbody>
        ${pad(first)}
        ${rows.slice(first, last).map((row, place) => html`<tr key=${keyOf(row)} class=${onOpen ? 'link' : ''} aria-rowindex=${first + place + 2} data-key=${keyOf(row)} onClick=${click(row)}>
          ${columns.map((column) => html`<td key=${column.key} class=${column.num ? 'num' : ''}>${column.cell(row)}</td>`)}
        </tr>`)}
        ${pad(rows.length - last)}
      </tbody>
    </table>
  </div>`;
}
