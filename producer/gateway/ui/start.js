import { html } from './html.js'; export const Start = () => html`<h1>Start</h1>`;
