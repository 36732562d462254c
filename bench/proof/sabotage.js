/**
 * A proof that cannot fail proves nothing: told by PROOF_SABOTAGE, the server does once what a handover must never do.
 * `kill` is done by the proof itself.
 */
export const SABOTAGES = ['drop', 'repeat', 'swap', 'fin', 'rst', 'kill']

let next = process.env.PROOF_SABOTAGE

/** What is really written. */
export function sabotaged(socket, { kind }, bytes) {
  if (next === undefined || next === 'kill' || kind === 'pingpong' || kind === 'upload' || bytes.length < 1024) return bytes
  const act = next
  next = undefined
  return acts[act](bytes, socket)
}

const acts = {
  drop: (bytes) => bytes.subarray(1),
  repeat: (bytes) => Buffer.concat([bytes.subarray(0, 512), bytes]),
  swap: (bytes) => Buffer.concat([bytes.subarray(512, 1024), bytes.subarray(0, 512), bytes.subarray(1024)]),
  fin(bytes, socket) {
    setImmediate(() => socket.end())
    return bytes
  },
  rst(bytes, socket) {
    setImmediate(() => socket.resetAndDestroy())
    return bytes
  },
}
