import { halves } from '../halves.js'
import type { Installation } from '../installation.js'
import type { Supervised } from './supervised.js'
import type { Systemd } from './systemd.js'

/**
 * Whether `tsunagi run` has started this process.
 * @note src/node.cc makes what Node inherits CLOEXEC at start: children of the application do not get the descriptor.
 */
export function supervisedBy(installation: Installation): Supervised | undefined {
  const { environment } = installation.env
  const fd = environment['TSUNAGI_SUPERVISOR_FD']
  if (fd === undefined) return undefined
  delete environment['TSUNAGI_SUPERVISOR_FD'] // it is ours alone, not our children's
  return new (halves().Supervised)(installation, Number(fd))
}

/** Whether systemd has. Of the processes of a service only the main one, and the successors that it has started, have anything to say to it. */
export function systemdOf(installation: Installation): Systemd | undefined {
  const { environment } = installation.env
  const isSuccessor = environment[SYSTEMD_SUCCESSOR] !== undefined
  delete environment[SYSTEMD_SUCCESSOR] // it is ours alone, not our children's
  const { NOTIFY_SOCKET, SYSTEMD_EXEC_PID } = environment
  const isMain = SYSTEMD_EXEC_PID === String(process.pid)
  if (!NOTIFY_SOCKET || !/^[/@]/.test(NOTIFY_SOCKET) || !(isMain || isSuccessor)) return undefined
  return new (halves().Systemd)(installation, NOTIFY_SOCKET)
}

export const SYSTEMD_SUCCESSOR = 'TSUNAGI_SYSTEMD_SUCCESSOR'
