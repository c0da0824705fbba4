// A value that components and others watch.
import { useState, useEffect } from './html.js';

export function store(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watch of [...watchers]) watch(value);
    },
    watch(watch) {
      watchers.add(watch);
      return () => watchers.delete(watch);
    },
  };
}

// The value of a store; the component is drawn again when it changes.
export function useStore(of) {
  const [value, setValue] = useState(of.get());
  useEffect(() => {
    setValue(of.get());
    return of.watch(setValue);
  }, [of]);
  return value;
}
