// The lines that a crew printed.
import { html, useState, useEffect, useRef, useMemo } from './html.js';
import { number } from './format.js';
import { Copy, Button } from './parts.js';

const SHOWN = 1000;
const clock = (at) => at.slice(11, 23);

export function Log({ events, isLive }) {
  const [word, setWord] = useState('');
  const [all, setAll] = useState(false);
  const end = useRef(null);
  const lines = useMemo(() => events.filter((event) => event.type === 'log'), [events]);
  const found = word ? lines.filter((event) => String(event.data.line).toLowerCase().includes(word.toLowerCase())) : lines;
  const shown = all ? found : found.slice(-SHOWN);
  useEffect(() => {
    const box = end.current;
    if (box && isLive && box.scrollHeight - box.scrollTop - box.clientHeight < 120) box.scrollTop = box.scrollHeight;
  }, [lines.length]);
  return html`<section class="card" aria-labelledby="log">
    <header><h2 id="log">Log</h2><span class="faint">${number(lines.length)}</span><span class="grow"></span>
      ${lines.length > 0 && html`<input class="input narrow" type="search" aria-label="Lines with this text" placeholder="Lines with …" value=${word} onInput=${(event) => setWord(event.target.value)} />
      <${Copy} text=${() => found.map((event) => `${event.time} ${event.data.stream} ${event.data.line}`).join('\n')} label="Copy the log" />`}
    </header>
    <div class="body">
      ${lines.length === 0 && html`<p class="quiet">${isLive ? 'Nothing was printed yet.' : 'Nothing was printed, or it is kept no longer.'}</p>`}
      ${found.length > shown.length && html`<${Button} kind="small" onClick=${() => setAll(true)}>Show ${number(found.length - shown.length)} earlier lines<//>`}
      ${lines.length > 0 && html`<div class="log" ref=${end} tabindex="0" role="log" aria-label="Lines that the crew printed">${shown.map((event) => html`<div key=${event.id} class=${event.data.stream === 'stderr' ? 'err' : ''}><span class="faint">${clock(event.time)}</span> ${event.attempt > 1 && html`<span class="faint">#${event.attempt} </span>`}<span>${event.data.line}</span></div>`)}</div>`}
    </div>
  </section>`;
}
