import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Claim, isInWork, readHead, SnapshotWriter, startTimeOf } from '../../../src/cold/snapshot-store.js'
import { storedSnapshots } from '../../../src/cold/stored-files.js'
import { describePrivileged } from '../../helpers/privileged.js'
import { aBody, aHead, FILE } from './a-snapshot.js'

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'tsunagi-store-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function saved(path: string, head = aHead()): string {
  new SnapshotWriter(path, head).complete(aBody())
  return path
}

const refusal = (code: string) => expect.objectContaining({ code })

describe('a snapshot on disk', () => {
  test('is not there before it is complete, and then is its owner’s alone', () => {
    const path = join(directory(), FILE)
    const writer = new SnapshotWriter(path, aHead())
    expect(existsSync(path)).toBe(false)
    const [partial] = storedSnapshots(join(path, '..'))
    expect(partial).toMatchObject({ state: 'partial' })
    expect(readHead(partial?.path ?? '')).toMatchObject({ bodyBytes: 0, head: { ports: [7000] } })
    writer.complete(aBody())
    expect(storedSnapshots(join(path, '..'))).toEqual([{ path, state: 'snapshot' }])
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  test('leaves nothing behind when it is given up', () => {
    const path = join(directory(), FILE)
    new SnapshotWriter(path, aHead()).abandon()
    const writer = new SnapshotWriter(path, aHead())
    writer.complete(aBody())
    writer.abandon()
    expect(readdirSync(join(path, '..'))).toEqual([])
  })

  test('has a head that may be longer than the first look at it', () => {
    const path = saved(join(directory(), FILE), aHead({ tuples: new Uint8Array(36 * 9_000).fill(1) }))
    expect(readHead(path).head.tuples).toHaveLength(36 * 9_000)
    expect(new Claim(path).readBody().record.count).toBe(2)
  })

  test('is claimed by one of two, and by nobody once it is spent', () => {
    const path = saved(join(directory(), FILE))
    const claim = new Claim(path)
    expect(() => new Claim(path)).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT_CLAIMED'))
    const [stored] = storedSnapshots(join(path, '..'))
    expect(stored).toMatchObject({ state: 'claimed' })
    expect(stored && isInWork(stored, claim.head)).toBe(true)
    expect(claim.readBody().refused).toEqual(new Map([[1, 'it is MPTCP']]))
    claim.spend()
    expect(storedSnapshots(join(path, '..'))).toMatchObject([{ state: 'spent' }])
    claim.forget()
    expect(readdirSync(join(path, '..'))).toEqual([])
  })

  test('can be claimed again when whoever had claimed it is dead', () => {
    const path = saved(join(directory(), `${FILE.split('.')[0]}.4194305-1.claimed`))
    const stored = { path, state: 'claimed' } as const
    expect(isInWork(stored, aHead())).toBe(false)
    expect(new Claim(path).readBody().record.count).toBe(2)
  })

  test('is in work while the process that saves is the one that began', () => {
    const stored = { path: 'x.partial', state: 'partial' } as const
    expect(isInWork(stored, aHead())).toBe(true)
    expect(isInWork(stored, aHead({ started: '1' }))).toBe(false) // the pid is in use again
    expect(isInWork(stored, aHead({ pid: 4_194_305, started: '1' }))).toBe(false)
    expect(startTimeOf(4_194_305)).toBe('')
  })

  test('is not what another file of its name is', () => {
    const path = join(directory(), FILE)
    writeFileSync(path, 'something else entirely, and longer than the beginning of a snapshot is')
    expect(() => readHead(path)).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT'))
  })

  test('that cannot be written leaves the directory as it was', () => {
    const path = join(directory(), 'missing', FILE)
    expect(() => new SnapshotWriter(path, aHead())).toThrow(refusal('ENOENT'))
  })
})

describePrivileged('other-uid', 'a snapshot of another user', () => {
  test('is not read', () => {
    const path = saved(join(directory(), FILE))
    chmodSync(path, 0o666)
    chownSync(path, 65_534, 65_534)
    expect(() => readHead(path)).toThrow(refusal('ERR_TSUNAGI_SNAPSHOT_OWNER'))
  })
})
