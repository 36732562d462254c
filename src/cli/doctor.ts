import { spawnSync } from 'node:child_process'
import { controlDirectory } from '../channel/rendezvous.js'
import { loadBinding } from '../native/binding.js'
import type { Native } from '../native/native.js'
import { VERSION } from '../version.js'
import type { Command } from './command.js'
import { EXIT } from './command.js'

/** What was looked at, whether it is as it should be, and what that means. */
interface Finding {
  readonly about: string
  readonly fine: boolean
  readonly says: string
}

export const doctor: Command = {
  summary: 'says what this machine and this user can do',
  usage: '[options]',
  options: {},
  run({ output }) {
    const { native, missing } = loadBinding()
    const findings = [
      { about: 'node', fine: true, says: `Node ${process.version}, tsunagi ${VERSION}, ${process.platform}-${process.arch}` },
      native
        ? { about: 'addon', fine: true, says: 'loaded, and it fits this Node: connections can move' }
        : { about: 'addon', fine: false, says: `${missing.message}. Listeners are handed over, connections drain` },
      directory(),
      ...(native ? [pidfd(native), netAdmin(native), fdLimit(native)] : []),
      systemdStore(),
      pm2(),
    ]
    for (const { about, fine, says } of findings) output.out(`${fine ? 'ok ' : 'no '} ${about.padEnd(14)} ${says}\n`)
    return findings.some(({ about, fine }) => !fine && REQUIRED.has(about)) ? EXIT.failed : EXIT.ok
  },
}

/** Without these an ordinary reload does not work; the others are for more. */
const REQUIRED = new Set(['addon', 'directory'])

function directory(): Finding {
  try {
    return { about: 'directory', fine: true, says: `control sockets are in ${controlDirectory()}` }
  } catch (error) {
    return { about: 'directory', fine: false, says: (error as Error).message }
  }
}

function pidfd(native: Native): Finding {
  const [a, b] = native.socketPair()
  try {
    native.closeFds(Int32Array.of(native.peerPidfd(a)))
    return { about: 'pidfd', fine: true, says: 'the death of the other process can be proven' }
  } catch (error) {
    return {
      about: 'pidfd',
      fine: false,
      says: `${(error as Error).message}: the other process's number is asked for instead (Linux 5.3 has pidfds)`,
    }
  } finally {
    native.closeFds(Int32Array.of(a, b))
  }
}

function netAdmin(native: Native): Finding {
  try {
    native.holdList()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EPERM')
      return { about: 'CAP_NET_ADMIN', fine: false, says: 'missing: connections go on while some process holds them, not from a snapshot' }
    if (code !== 'ENOENT') return { about: 'CAP_NET_ADMIN', fine: false, says: `this kernel has no nftables (${message}): no snapshots` }
  }
  return { about: 'CAP_NET_ADMIN', fine: true, says: 'here, and the kernel has nftables: snapshots are possible' }
}

function fdLimit(native: Native): Finding {
  const { soft, hard } = native.fdLimits()
  return {
    about: 'descriptors',
    fine: hard >= 4096,
    says: `${hard} at most for each process (soft limit ${soft}, raised at a handover); a handover needs one a connection and a few more`,
  }
}

function systemdStore(): Finding {
  const { INVOCATION_ID, NOTIFY_SOCKET, FDSTORE } = process.env
  if (INVOCATION_ID === undefined)
    return {
      about: 'systemd',
      fine: true,
      says: 'not started by it; in a unit, use Type=notify, NotifyAccess=all, FileDescriptorStoreMax=8',
    }
  if (NOTIFY_SOCKET === undefined)
    return { about: 'systemd', fine: false, says: 'this unit has no notify socket: set Type=notify and NotifyAccess=all' }
  if (FDSTORE === undefined)
    return {
      about: 'systemd',
      fine: false,
      says: '$FDSTORE is not set: no descriptor store here, or a systemd before 254; `systemctl show -p FileDescriptorStoreMax` tells',
    }
  return { about: 'systemd', fine: Number(FDSTORE) >= 4, says: `its descriptor store has ${FDSTORE} places` }
}

function pm2(): Finding {
  const { status, stdout } = spawnSync('pm2', ['--version'], { encoding: 'utf8', timeout: 10_000 })
  return { about: 'pm2', fine: true, says: status === 0 ? `PM2 ${stdout.trim().split('\n').at(-1)}` : 'not installed here' }
}
