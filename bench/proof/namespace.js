import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Ways to a network namespace of one's own: as root, or as an ordinary user inside a user namespace. */
const WAYS = [
  { how: 'a network namespace of its own', command: ['unshare', '--net'] },
  { how: 'a network namespace of its own, inside a user namespace', command: ['unshare', '--user', '--map-root-user', '--net'] },
]

/** The first way that works here; `undefined`: none does, and the reason is in `why`. */
export function findNamespace() {
  let why = ''
  for (const { how, command } of WAYS) {
    const [program, ...options] = command
    const { status, error, stderr } = spawnSync(program, [...options, 'ip', 'link', 'set', 'lo', 'up'], { encoding: 'utf8' })
    if (status === 0) return { how, command }
    why = `${command.join(' ')}: ${error?.message ?? stderr.trim().split('\n').at(-1)}`
  }
  return { how: `the host's network namespace, on loopback (${why})`, command: undefined }
}

/** Runs this very program in there. Resolves with what it wrote to stdout, its exit code, and how many of its processes are left afterwards. */
export async function runInside({ command }, script, args, environment) {
  const [program, ...options] = command
  const inside = ['sh', '-c', 'ip link set lo up && exec "$0" "$@"', process.execPath, script, ...args]
  const child = spawn(program, [...options, ...inside], { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'] })
  const end = () => child.kill()
  process.once('exit', end)
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  let namespace
  child.stdout.once('data', () => {
    namespace = namespaceOf(child.pid)
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  process.off('exit', end)
  return { output, code, left: namespace === undefined ? 0 : processesIn(namespace).length }
}

/** Processes in a network namespace, as far as we may look. */
export function processesIn(namespace) {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && namespaceOf(name) === namespace)
}

export function namespaceOf(pid) {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`)
  } catch {
    return undefined // it has ended, or is somebody else's
  }
}

/** TCP's counters in this network namespace: /proc/net/snmp and /proc/net/netstat, two lines for each protocol. */
export function tcpCounters() {
  const counters = {}
  for (const file of ['/proc/net/snmp', '/proc/net/netstat']) {
    const lines = readFileSync(file, 'utf8').trim().split('\n')
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const [protocol, ...names] = lines[i].split(' ')
      const [, ...values] = lines[i + 1].split(' ')
      if (protocol === 'Tcp:' || protocol === 'TcpExt:')
        names.forEach((name, at) => {
          counters[name] = Number(values[at])
        })
    }
  }
  return counters
}

/** Lets the kernel count packets of a port that say FIN or RST. `undefined` where nftables is not there or not allowed. */
export function countPackets(port) {
  const { status } = spawnSync('nft', ['-f', '-'], { input: RULES(port) })
  if (status !== 0) return undefined
  return () => {
    const { stdout } = spawnSync('nft', ['--json', 'list', 'counters', 'table', 'inet', 'tsunagi-proof'], { encoding: 'utf8' })
    const counters = JSON.parse(stdout).nftables.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : []))
    return Object.fromEntries(counters)
  }
}

const RULES = (port) => `
table inet tsunagi-proof {
  counter fin { }
  counter rst { }
  chain input {
    type filter hook input priority 0;
    tcp sport ${port} tcp flags & fin == fin counter name "fin"
    tcp sport ${port} tcp flags & rst == rst counter name "rst"
    tcp dport ${port} tcp flags & rst == rst counter name "rst"
  }
}`
