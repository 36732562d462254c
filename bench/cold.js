import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { median, runInOwnNamespace } from './own-namespace.js'

const PHASES = ['hold', 'dump', 'close', 'restore', 'release', 'leave']

/** What saving and restoring connections costs in the addon, in µs for each, against the same system calls in plain C. */
export function measureCold({ connections = 2000, bytes = 0, rounds = 7 } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'tsunagi-cold-'))
  const floor = join(folder, 'floor')
  try {
    const source = fileURLToPath(new URL('cold/floor.c', import.meta.url))
    const built = spawnSync(process.env.CC ?? 'cc', ['-O2', '-o', floor, source], { stdio: 'inherit' })
    if (built.status !== 0) throw new Error('bench/cold/floor.c could not be built: is a C compiler installed?')
    const [{ c, addon }] = runInOwnNamespace('cold/native.js', floor, connections, bytes, rounds)
    return PHASES.map((phase) => {
      const [least, ours] = [c, addon].map((samples) => median(samples.map((sample) => sample[phase])))
      const each = phase === 'hold' || phase === 'release' ? 'one port' : 'a connection'
      return { phase, of: each, 'C, µs': least.toFixed(1), 'addon, µs': ours.toFixed(1), ratio: (ours / least).toFixed(2) }
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Whole cold restarts under 1,000 pings a second: how long nobody served, and the longest that a client waited for an answer. */
export function measureColdRestarts() {
  return [
    [1_000, 0],
    [1_000, 2_000],
    [9_000, 0],
    [9_000, 2_000],
  ].map(([connections, pause]) => {
    const restarts = runInOwnNamespace('cold/restart.js', connections, pause, 3)
    const of = (pick) => median(restarts.map(pick))
    return {
      connections,
      'nobody there, ms': pause,
      'saved and left, ms': of(({ leave }) => leave).toFixed(0),
      'gap, ms': of(({ gap }) => gap).toFixed(0),
      'longest silence, ms': of(({ silence }) => silence).toFixed(0),
      'silence / gap': of(({ silence, gap }) => silence / gap).toFixed(2),
      'steady max, ms': of(({ steady }) => steady).toFixed(1),
    }
  })
}
