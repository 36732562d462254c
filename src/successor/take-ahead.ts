import type { MessageOf } from '../channel/messages.js'
import type { Installation } from '../installation.js'
import type { Landing } from './landing.js'
import { makeRoom } from './make-room.js'
import type { Session } from './session.js'

/** Takes what comes ahead of the freeze, if anything does, until the predecessor is about to begin. What has landed is dropped if it does not come to that. */
export async function takeAhead(installation: Installation, session: Session, landing: Landing): Promise<MessageOf<'prepare' | 'abort'>> {
  session.onEnded = (place) => landing.dropAhead(place)
  try {
    for (;;) {
      const { message, fds } = await session.next('ahead', 'prepare', 'abort')
      if (message.type === 'abort') landing.dropAll()
      if (message.type !== 'ahead') return message
      landing.landAhead(fds)
      if (message.connections > 0) makeRoom(installation, message.connections)
      session.channel.send({ type: 'landed' })
    }
  } catch (error) {
    landing.dropAll()
    throw error
  }
}
