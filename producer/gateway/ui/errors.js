import { html } from './html.js'; export const Errors = () => html`<h1>Errors</h1>`;
