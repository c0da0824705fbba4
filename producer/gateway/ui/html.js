// Preact with templates instead of JSX: nothing has to be built.
import { h, render, Fragment, createContext } from './vendor/preact.js';
import htm from './vendor/htm.js';

export { render, Fragment, createContext };
export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext, useId } from './vendor/preact-hooks.js';

// Texts in it are text: Preact makes text nodes of them, and attributes are set by name.
export const html = htm.bind(h);
