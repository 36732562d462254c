import { carry } from 'tsunagi'

/**
 * A cron job: sends a numbered tick to every client once a period. The number and the time of the next tick are carried, so that the next process
 * goes on where this one stops: no number comes twice, and none comes late by more than the handover took.
 */
export function createClock(server, period) {
  const sockets = carry(server, 'sockets', () => new Set())
  const state = carry(server, 'clock', () => ({ ticks: 0, due: Date.now() + period }))
  let timer
  // The sockets that came along are in the set already; adding them again changes nothing.
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  return { start, stop }

  /**
   * An interval, and not a chain of timeouts: between the handover and `retiring` lie some milliseconds, in which what an interval still writes
   * reaches nobody, while what a timeout writes is taken for work that was begun, and is sent.
   */
  function start() {
    timer = setInterval(() => Date.now() >= state.due && tick(), LOOK_MS)
  }

  function stop() {
    clearInterval(timer)
  }

  function tick() {
    const late = Date.now() - state.due
    state.ticks++
    state.due += period * Math.max(1, Math.ceil(late / period))
    for (const socket of sockets) socket.write(`tick ${state.ticks}, ${late} ms late\n`)
  }
}

const LOOK_MS = 10
