import type { MessageOf } from '../channel/messages.js'
import type { Peer } from '../channel/peer.js'
import { areSiblings } from '../channel/rendezvous.js'
import type { Installation } from '../installation.js'
import { isDisconnectedWorker, placeOf } from '../slot.js'

/** An older worker of the same primary is disconnected, and asks this one, which serves already, to take its connections. */
export function come(installation: Installation, { channel, credentials }: Peer, { address }: MessageOf<'come'>): void {
  const reason =
    whyNot(installation, credentials, address) ??
    (installation.predecessors.takeOverFrom(address) ? undefined : 'there is nothing to be had')
  if (reason === undefined) return // who has asked sees the successor come, and closes this
  try {
    channel.send({ type: 'refused', code: 'ERR_TSUNAGI_REFUSED', reason })
  } catch (error) {
    channel.close(error as Error) // it does not wait any longer
  }
}

function whyNot(installation: Installation, { uid, pid }: Peer['credentials'], address: string): string | undefined {
  const { lifecycle, desk, isInheriting, generation } = installation
  if (uid !== (process.geteuid?.() ?? 0)) return `process ${process.pid} runs as another user`
  if (!areSiblings(pid, process.pid) || address !== placeOf(pid)) return 'it is no worker of the same primary'
  if (!lifecycle.isOwner || desk.busyWith || isInheriting) return `process ${process.pid} does not serve, or is taking over or handing over`
  if (isDisconnectedWorker()) return `process ${process.pid} is disconnected itself`
  if (generation > 1) return `process ${process.pid} has replaced another worker already`
  return undefined
}
