import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { findNamespace } from './proof/namespace.js'

/** Runs a script of this folder where no other socket and no rule of this machine is; what it printed, one JSON value a line. */
export function runInOwnNamespace(script, ...args) {
  const { command, how } = findNamespace()
  if (command === undefined) throw new Error(`this needs a network namespace of its own; there is only ${how}`)
  const prepare = 'ip link set lo up; echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range; exec "$0" "$@"'
  const [program, ...options] = [...command, 'sh', '-c', prepare, process.execPath, fileURLToPath(new URL(script, import.meta.url))]
  const run = spawnSync(program, [...options, ...args.map(String)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (run.status !== 0) throw new Error(`${script} ended with ${run.signal ?? run.status}`)
  return run.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

export function median(list) {
  return [...list].sort((a, b) => a - b)[list.length >> 1]
}
