import { spawnSync } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { missingNodes, NODES } from '../helpers/nodes.js'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

describe('the proof', () => {
  it('holds', () => {
    const { status, outcome } = prove('--reloads', '3', '--clients', '60')
    expect(outcome).toMatchObject({ reloads: 3, lost: 0, duplicated: 0, wrong: 0, seenByClients: 0, failures: [] })
    expect(status).toBe(0)
  })

  it('holds for a server that is full of bytes', () => {
    const { status, outcome } = prove('big', '--reloads', '2', '--clients', '100')
    expect(outcome).toMatchObject({ lost: 0, duplicated: 0, wrong: 0, tooLittle: [], failures: [] })
    expect(status).toBe(0)
  })

  it('holds for web apps that know nothing of it', () => {
    const { status, outcome } = prove('web', '--reloads', '2', '--clients', '40')
    expect(outcome.failures).toEqual([])
    expect(status).toBe(0)
  })

  it.each(NODES.slice(1))('holds for web apps on Node $major', ({ path }) => {
    expect(missingNodes()).toBe('')
    const { status, outcome } = proveOn(path, 'web', '--reloads', '1', '--clients', '20')
    expect(outcome.failures).toEqual([])
    expect(status).toBe(0)
  })

  it('notices what becomes of WebSockets and event streams that nobody has asked to be moved', () => {
    const { status, outcome } = prove('web', '--reloads', '1', '--clients', '20', '--move', '')
    const failures = outcome.failures.join('\n')
    for (const kind of ['ws, websocket', 'ws, event stream', 'socket.io, socket.io', 'socket.io, event stream'])
      expect(failures).toMatch(`${kind}: `)
    expect(failures).not.toMatch(/keep-alive|upload|download/)
    expect(status).toBe(1)
  })

  // A proof that cannot fail proves nothing.
  it.each([
    ['drop', 'bytes were lost'],
    ['repeat', 'bytes came twice'],
    ['swap', 'hashes differ'],
    ['fin', 'ends or errors were seen by clients'],
    ['rst', 'RST'],
    ['kill', 'left with SIGKILL'],
  ])('notices when its server is made to %s', (sabotage, failure) => {
    const { status, outcome } = prove('--reloads', '2', '--clients', '40', '--sabotage', sabotage)
    expect(outcome.failures.join('\n')).toContain(failure)
    expect(status).toBe(1)
  })
})

const prove = (...args: string[]) => proveOn(process.execPath, ...args)

function proveOn(node: string, ...args: string[]): { status: number | null; outcome: { failures: string[] } } {
  const { status, stdout, stderr } = spawnSync(node, ['bench/proof.js', '--json', ...args], { cwd: root, encoding: 'utf8' })
  if (stdout === '') throw new Error(stderr)
  return { status, outcome: JSON.parse(stdout) }
}
