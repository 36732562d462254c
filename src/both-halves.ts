/* What the rest of the library wants of the code that only a handover runs: see halves.ts. */
export { peerOf } from './channel/peer.js'
export { PlainInstallation } from './plain-installation.js'
export { Conversation } from './predecessor/conversation.js'
export { openSession, openSlotSession } from './successor/session.js'
export { takeHeld } from './successor/take-held.js'
export { serveAll, serveListeners, takeOver } from './successor/take-over.js'
export { failure, spawnSuccessor } from './triggers/spawn.js'
