import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const server = fileURLToPath(new URL('listen.js', import.meta.url))

/** Wall time of a process that listens once and ends, by preload, as the difference to plain Node in milliseconds and as a ratio. */
export function measureStart({ runs = 15 } = {}) {
  const ways = { plain: [], import: ['--import', 'tsunagi/register'], require: ['-r', 'tsunagi/register'] }
  const times = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
  for (let i = 0; i < runs; i++) {
    for (const [name, args] of Object.entries(ways)) {
      const start = performance.now()
      const { status, stderr } = spawnSync(process.execPath, [...args, server], { env: { ...process.env, TSUNAGI_LOG: 'silent' } })
      times[name].push(performance.now() - start)
      if (status !== 0) throw new Error(String(stderr))
    }
  }
  const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]
  const plain = median(times.plain)
  return ['import', 'require'].map((name) => ({ name, ms: median(times[name]) - plain, ratio: median(times[name]) / plain }))
}
