import * as bothHalves from './both-halves.js'

/**
 * The code of a handover, which most processes start without: the two halves, codec and graph. In the bundle this file is another one
 * (tsup.config.ts): there that code is text in memory, which is compiled when it is first asked for, since compiling it at load was a third of
 * what this library cost a start. Nothing of it is read from disk then (P10).
 */
export function halves(): typeof bothHalves {
  return bothHalves
}
