import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'vitest'
import { memoryLimits } from './memory-limit.js'

/**
 * What a test may need beyond an ordinary user's rights. Each is found out by doing it, not by looking at the uid: root in a container
 * may have no CAP_NET_ADMIN, and an ordinary user may have a network namespace of its own.
 */
export type Privilege = keyof typeof attempts

export type Probe = { ok: true } | { ok: false; reason: string }

/** Whether this process has `privilege`, and if not, what was tried and what happened. */
export function privileged(privilege: Privilege): Probe {
  const known = probes.get(privilege)
  if (known) return known
  const probe = attempts[privilege]()
  probes.set(privilege, probe)
  return probe
}

/**
 * `describe` for tests that need a privilege. Where it is missing they are skipped with the reason on stderr and in the title;
 * with CI=true or TSUNAGI_REQUIRE_PRIVILEGED=1 one failing test stands in for them, since a skip there would hide what is not tested.
 */
export function describePrivileged(privilege: Privilege, title: string, body: () => void): void {
  const probe = privileged(privilege)
  if (probe.ok) describe(title, body)
  else if (isRequired()) describe(title, () => it(`has the privilege ${privilege}`, () => refuse(privilege, probe.reason)))
  else describe.skip(announceSkip(title, privilege, probe.reason), body)
}

function isRequired(): boolean {
  return process.env.CI === 'true' || process.env.TSUNAGI_REQUIRE_PRIVILEGED === '1'
}

function refuse(privilege: Privilege, reason: string): never {
  throw new Error(`this test needs the privilege ${privilege}, and skipping it is not allowed here: ${reason}`)
}

function announceSkip(title: string, privilege: Privilege, reason: string): string {
  process.stderr.write(`skipped: ${title}: needs the privilege ${privilege}: ${reason}\n`)
  return `${title} (skipped: ${reason})`
}

function attempt(command: string, ...args: string[]): Probe {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 60_000 })
  if (status === 0) return { ok: true }
  const outcome = error?.message ?? (stderr.trim().split('\n').at(-1) || `exit code ${status}`)
  return { ok: false, reason: `${[command, ...args].join(' ')}: ${outcome}` }
}

function attemptOtherUid(): Probe {
  const { status, error } = spawnSync(process.execPath, ['--version'], { uid: OTHER_UID, gid: OTHER_UID, timeout: 10_000 })
  return status === 0 ? { ok: true } : { ok: false, reason: `spawn with uid ${OTHER_UID}: ${error?.message ?? `exit code ${status}`}` }
}

/** Nobody, or for nobody itself daemon. */
const OTHER_UID = process.getuid?.() === 65534 ? 1 : 65534

/** @note 19 is TCP_REPAIR (linux/tcp.h): it needs CAP_NET_ADMIN in the user namespace that owns this network namespace. */
const ENTER_REPAIR_MODE = 'import socket; socket.socket().setsockopt(socket.IPPROTO_TCP, 19, 1)'

function unpacked(version: number): Probe {
  const older = attempts.systemd()
  return older.ok ? attempt('bash', fileURLToPath(new URL('../systemd/unpack.sh', import.meta.url)), String(version)) : older
}

const attempts = {
  /** Spawn a process of another uid. */
  'other-uid': attemptOtherUid,
  /** A network namespace of its own, as root or inside a user namespace: `unshare --user --map-root-user --net` for an ordinary user. */
  'net-namespace': (): Probe => {
    const direct = attempt('unshare', '--net', 'ip', 'link', 'set', 'lo', 'up')
    return direct.ok ? direct : attempt('unshare', '--user', '--map-root-user', '--net', 'ip', 'link', 'set', 'lo', 'up')
  },
  /** Namespaces with a cgroup tree of their own, and a systemd to boot in them. */
  systemd: (): Probe => {
    const namespaces = attempt(
      'unshare',
      '--pid',
      '--mount',
      '--uts',
      '--ipc',
      '--cgroup',
      '--fork',
      'mount',
      '-t',
      'tmpfs',
      'tmpfs',
      '/run',
    )
    return namespaces.ok ? attempt('/lib/systemd/systemd', '--version') : namespaces
  },
  /** The same, and systemd 254 or 257, which come from Debian's mirror. */
  'systemd-254': () => unpacked(254),
  'systemd-257': () => unpacked(257),
  /** CAP_NET_ADMIN in the network namespace the tests run in. */
  'net-admin': (): Probe => attempt('python3', '-c', ENTER_REPAIR_MODE),
  /** A group of processes with a memory limit: root, and a cgroup tree that may be written to. */
  'memory-limit': memoryLimits,
}

const probes = new Map<Privilege, Probe>()
