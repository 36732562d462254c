/** Keys of the roots of the carried graph: whose value it is, by index in the record, and its name. */

export const serverRootKey = (server: number, name: string): string => `s${server} ${name}`
export const connectionRootKey = (connection: number, name: string): string => `c${connection} ${name}`

export function parseRootKey(key: string): { scope: 'server' | 'connection'; index: number; name: string } | undefined {
  const match = /^([sc])(\d{1,9}) (.*)$/s.exec(key)
  if (match === null) return undefined
  return { scope: match[1] === 's' ? 'server' : 'connection', index: Number(match[2]), name: match[3] as string }
}

/** How messages to people name it. */
export function nameOfRoot(key: string): string {
  const root = parseRootKey(key)
  return `carry(${root?.scope === 'server' ? 'server' : 'socket'}, ${JSON.stringify(root?.name)})`
}
