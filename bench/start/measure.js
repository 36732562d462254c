import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))

/**
 * What a process costs more that listens once and ends, by preload: wall time and CPU time, in milliseconds, and as a ratio. Each is compared with plain Node of
 * the same round, since what else runs on the machine comes and goes.
 */
export function measureStart({ runs = 21 } = {}) {
  const ways = { plain: [], import: ['--import', 'tsunagi/register'], require: ['-r', 'tsunagi/register'] }
  const rounds = Array.from({ length: runs }, () => Object.fromEntries(Object.entries(ways).map(([name, args]) => [name, startOnce(args)])))
  return ['import', 'require'].map((name) => ({ name, wall: compare(rounds, name, 'wall'), cpu: compare(rounds, name, 'cpu') }))
}

function startOnce(args) {
  const start = performance.now()
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, here('listen.js')], {
    env: { ...process.env, TSUNAGI_LOG: 'silent' },
    encoding: 'utf8',
  })
  const wall = performance.now() - start
  if (status !== 0) throw new Error(stderr)
  return { wall, cpu: Number(stdout) }
}

function compare(rounds, name, what) {
  return {
    more: median(rounds.map((round) => round[name][what] - round.plain[what])),
    ratio: median(rounds.map((round) => round[name][what] / round.plain[what])),
  }
}

function median(list) {
  return list.sort((a, b) => a - b)[Math.floor(list.length / 2)]
}
