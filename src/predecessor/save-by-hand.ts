import type { MessageOf } from '../channel/messages.js'
import { TsunagiError } from '../errors.js'
import { counted } from '../handover/report.js'
import { snapshotFile } from '../holders/snapshot-file.js'
import type { Installation } from '../installation.js'
import type { Left } from './leave.js'

/** What was saved. This process has no connections any more; `exit.trigger.endByHand` ends it. */
export interface SavedByHand {
  readonly left: Left
  readonly saved: Omit<MessageOf<'saved'>, 'type'>
}

/** Saves the connections of every server, whatever it asks for itself. Rejects with ERR_TSUNAGI_BUSY or _REPAIR, and nothing has changed. */
export async function saveByHand(installation: Installation): Promise<SavedByHand> {
  const { exit, servers } = installation
  if (!exit.trigger.isFree)
    throw new TsunagiError('ERR_TSUNAGI_BUSY', 'This process is handing over, ending, or does not serve yet.', { serving: true })
  const reason = snapshotFile.unavailable(installation)
  if (reason) throw new TsunagiError('ERR_TSUNAGI_REPAIR', `Connections cannot be saved as data: ${reason}.`, { serving: true })
  const wished = [...servers].filter(({ key, isShared }) => key !== '' && !isShared)
  const left = await exit.trigger.leaveByHand(new Map(wished.map((attached) => [attached, 'snapshot'])))
  if (left?.put.saved === undefined) {
    throw new TsunagiError('ERR_TSUNAGI_REPAIR', 'The connections were not saved; the standard error of the process says why.', {
      serving: true,
    })
  }
  const { file, refused } = left.put.saved
  const ending = counted([...refused.values(), ...left.staying])
  return { left, saved: { file, connections: left.connections - refused.size, ending } }
}
