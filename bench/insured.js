import { median, runInOwnNamespace } from './own-namespace.js'

/**
 * Whether a client notices that its connection was looked at in repair mode: retransmissions, and the longest silence as a multiple of that of
 * the lap without any look. `glimpse` is what a handover may do; `whole` reads the send queue, as only a snapshot under a packet hold may.
 */
export function measureInsured({ connections = 3, rounds = 8, lapMs = 1500, rate = 100 } = {}) {
  const [samples] = runInOwnNamespace('insured/measure.js', connections, rounds, lapMs, rate)
  const quiet = (kind) => median(samples.none.map(({ longest }) => longest[kind]))
  return Object.entries(samples).map(([way, laps]) => ({
    look: way,
    'looks at a connection': laps.reduce((total, lap) => total + lap.looks, 0) * connections,
    'µs each': median(laps.map(({ us }) => us)).toFixed(1),
    retransmissions: laps.reduce((total, lap) => total + lap.retransmits, 0),
    ...Object.fromEntries(
      ['download', 'upload', 'question'].map((kind) => [
        `longest silence, ${kind}`,
        `${median(laps.map(({ longest }) => longest[kind])).toFixed(0)} ms, x ${median(laps.map(({ longest }) => longest[kind] / quiet(kind))).toFixed(1)}`,
      ]),
    ),
    'MB a lap': median(laps.map(({ megabytes }) => megabytes)).toFixed(0),
    broken: laps.reduce((total, lap) => total + lap.broken, 0),
  }))
}
