// Where the time of a kickoff went: a bar for each wait, attempt, task, agent, tool and model call.
import { html, useState } from './html.js';
import { duration, number, compact } from './format.js';
import { Button } from './parts.js';
import { NAMES, tokensWithin } from './spans.js';

const MANY = 300;

function ticks(length) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3, 7200e3, 21600e3, 86400e3];
  const step = steps.find((one) => length / one <= 6) ?? length / 5;
  return Array.from({ length: Math.floor(length / step) + 1 }, (_, place) => place * step);
}

export function Waterfall({ spans }) {
  const [all, setAll] = useState(false);
  if (!spans.length) return html`<p class="quiet">No event of it is kept.</p>`;
  const start = Math.min(...spans.map((span) => span.start));
  const length = Math.max(...spans.map((span) => span.end)) - start || 1;
  const at = (time) => `${(((time - start) / length) * 100).toFixed(3)}%`;
  const shown = all ? spans : spans.slice(0, MANY);
  const kinds = [...new Set(spans.map((span) => span.kind))];
  return html`<div class="stack">
    <div class="waterfall" role="region" aria-label="Waterfall" tabindex="0">
      <div class="axis" aria-hidden="true"><span></span><div>${ticks(length).map((tick) => html`<i key=${tick} style=${{ left: at(start + tick) }}>${tick === 0 ? '0' : duration(tick)}</i>`)}</div><span></span><span></span></div>
      <ol>
        ${shown.map((span, place) => {
          const tokens = tokensWithin(span, spans);
          const took = duration(span.end - span.start);
          return html`<li key=${place} class="bar ${span.kind} ${span.error ? 'failed' : ''}" data-kind=${span.kind}>
            <div class="what" style=${{ paddingLeft: `${span.depth * 14}px` }} title="${NAMES[span.kind]}: ${span.name}${span.detail ? `, ${span.detail}` : ''}">
              <i class="swatch" aria-hidden="true"></i><span class="clip"><span class="visually-hidden">${NAMES[span.kind]}: </span>${span.name}${span.detail && html` <span class="faint">${span.detail}</span>`}</span>
            </div>
            <div class="track"><div class="fill ${span.open ? 'open' : ''}" style=${{ left: at(span.start), width: `max(${(((span.end - span.start) / length) * 100).toFixed(3)}%, 3px)` }}></div></div>
            <span class="num">${took}${span.open && html`<span class="visually-hidden"> so far</span>`}</span>
            <span class="num faint" title=${span.usage ? `${number(span.usage.prompt_tokens)} sent, ${number(span.usage.completion_tokens)} received` : undefined}>${tokens ? `${compact(tokens)} tok` : ''}</span>
            ${span.error && span.error !== 'failed' && html`<div class="why late">${span.error}</div>`}
          </li>`;
        })}
      </ol>
    </div>
    ${!all && spans.length > MANY && html`<${Button} onClick=${() => setAll(true)}>Show all ${number(spans.length)} bars<//>`}
    <div class="legend" aria-hidden="true">${kinds.map((kind) => html`<span key=${kind} class=${`bar ${kind}`}><i class="swatch"></i>${NAMES[kind]}</span>`)}</div>
  </div>`;
}
