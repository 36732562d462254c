import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import { CONNECTION_FLAG } from '../channel/record.js'
import { openAccount } from '../handover/account.js'
import type { Installation } from '../installation.js'
import { assignServer, configureParkedSocket, endReading, markEnded, setNeedDrain } from '../native/net-internals.js'
import type { Restored, RestoredConnection } from './restore.js'

/**
 * After commit: lets every restored connection flow. Carried state first, since handlers look at it; then the connections, each in the same order:
 * what was unread, what was unsent, the application's 'connection' handler. Reading starts when all handlers have run.
 * `beforeBatch` is told which connections are about to be touched. A handler that throws costs its connection, unless `onThrow` takes it.
 */
export function resume(
  installation: Resuming,
  { connections, graph }: Restored,
  beforeBatch: (indexes: number[]) => void,
  onThrow?: OnThrow,
): void {
  graph?.commit()
  installation.resumption.during(() => {
    for (let at = 0; at < connections.length; at += BATCH) {
      const batch = connections.slice(at, at + BATCH)
      beforeBatch(batch.map(({ index }) => index))
      for (const connection of batch) resumeOrClose(installation, connection, onThrow)
      if (at === 0) installation.env.fault('successor-amid-resume')
    }
  })
  installation.flow.start(connections)
}

type OnThrow = (error: unknown, connection: RestoredConnection) => void

/** What resuming needs of the installation. */
type Resuming = Pick<Installation, 'env' | 'flow' | 'resumption'>

/** A successor that dies in between costs the connections of the batches that it has begun. */
const BATCH = 1024

/** One connection whose handler throws must not take the others with it. */
function resumeOrClose(installation: Resuming, connection: RestoredConnection, onThrow: OnThrow | undefined): void {
  try {
    resumeConnection(installation, connection)
  } catch (error) {
    if (onThrow) return onThrow(error, connection)
    const reason = (error as Error)?.stack ?? String(error)
    installation.env.log(`the 'connection' handler threw for a resumed connection, which is closed: ${reason}`)
    connection.socket.destroy()
  }
}

function resumeConnection(installation: Resuming, connection: RestoredConnection): void {
  const { socket, attached, protocol, state, flags, unread, unsent, timeout } = connection
  configureParkedSocket(socket, {
    allowHalfOpen: (flags & CONNECTION_FLAG.allowHalfOpen) !== 0,
    noDelay: (flags & CONNECTION_FLAG.noDelay) !== 0,
    keepAlive: (flags & CONNECTION_FLAG.keepAlive) !== 0,
  })
  openAccount(socket, connection)
  installation.flow.hold(socket)
  if (unread) for (const bytes of unread.reverse()) socket.unshift(bytes)
  if (unsent) for (const bytes of unsent) socket.write(bytes)
  if (flags & CONNECTION_FLAG.needDrain && socket.writableLength > 0) setNeedDrain(socket, true)
  if (flags & CONNECTION_FLAG.writableEnded) socket.end()
  if (flags & CONNECTION_FLAG.endEmitted) markEnded(socket)
  if (flags & CONNECTION_FLAG.unreferenced) socket.unref()
  if (!attached) return installation.resumption.adopt(socket)
  const { server } = attached
  assignServer(socket, server)
  const connect = () => installation.resumption.runHandler(socket, () => server.emit('connection', socket))
  protocol.adopt({ socket, server, timeout, connect }, state)
  if (serverSocketChannel.hasSubscribers) serverSocketChannel.publish({ socket })
  if (flags & CONNECTION_FLAG.peerEnded && !(flags & CONNECTION_FLAG.endEmitted)) endReading(socket)
}

const serverSocketChannel = diagnosticsChannel('net.server.socket')
