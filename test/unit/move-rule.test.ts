import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type MoveKind, readMoveRule } from '../../src/move-rule.js'

const KINDS: MoveKind[] = ['raw', 'ws', 'sse']

describe('TSUNAGI_MOVE', () => {
  it.each([
    ['raw', ['raw']],
    ['ws,sse', ['ws', 'sse']],
    [' ws , raw ', ['raw', 'ws']],
    ['all', ['raw', 'ws', 'sse']],
    ['', []],
  ])('=%j asks for %j', (given, asked) => {
    const rule = readMoveRule({ TSUNAGI_MOVE: given }, undefined)
    expect(KINDS.filter((kind) => rule.asksFor(kind))).toEqual(asked)
  })

  it('is named as the rule, as it was given', () => {
    expect(readMoveRule({ TSUNAGI_MOVE: 'ws,raw' }, undefined).asksFor('raw')).toBe('TSUNAGI_MOVE=ws,raw')
  })

  it.each(['tcp', 'raw;ws', 'ALL', 'raw,none'])('=%s is refused, and the message says what there is', (given) => {
    expect(() => readMoveRule({ TSUNAGI_MOVE: given }, undefined)).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        code: 'ERR_TSUNAGI_OPTION',
        message: expect.stringMatching(/^TSUNAGI_MOVE knows raw, ws, sse and all, not "/),
      }),
    )
  })

  it('wins over package.json, also where it asks for nothing', () => {
    const main = application({ tsunagi: { move: ['all'] } })
    expect(readMoveRule({ TSUNAGI_MOVE: '' }, main).asksFor('raw')).toBeUndefined()
    expect(readMoveRule({}, main).asksFor('raw')).toBe('package.json')
  })
})

describe('package.json', () => {
  it('is the one nearest to the main module', () => {
    const folder = folderWith({ tsunagi: { move: ['raw'] } })
    mkdirSync(join(folder, 'src', 'deep'), { recursive: true })
    expect(readMoveRule({}, join(folder, 'src', 'deep', 'main.js')).asksFor('raw')).toBe('package.json')
    writeFileSync(join(folder, 'src', 'package.json'), '{}')
    expect(readMoveRule({}, join(folder, 'src', 'deep', 'main.js')).asksFor('raw')).toBeUndefined()
  })

  it('is found for a main module that is given as its folder, or without its extension', () => {
    const folder = folderWith({ tsunagi: { move: ['raw'] } })
    expect(readMoveRule({}, folder).asksFor('raw')).toBe('package.json')
    expect(readMoveRule({}, join(folder, 'server')).asksFor('raw')).toBe('package.json')
  })

  it('is found for a main module that is a symbolic link, as the commands of a package are', () => {
    const main = application({ tsunagi: { move: ['raw'] } })
    const link = join(folderWith({}), 'command')
    symlinkSync(main, link)
    expect(readMoveRule({}, link).asksFor('raw')).toBe('package.json')
  })

  it.each([{}, { tsunagi: {} }, { name: 'x', tsunagi: { move: [] } }])('that says %j asks for nothing', (packageJson) => {
    const rule = readMoveRule({}, application(packageJson))
    expect(KINDS.filter((kind) => rule.asksFor(kind))).toEqual([])
  })

  it('that cannot be read is left to Node to complain about', () => {
    const folder = folderWith({})
    writeFileSync(join(folder, 'package.json'), '{ "tsunagi": ')
    expect(readMoveRule({}, join(folder, 'server.js')).asksFor('raw')).toBeUndefined()
  })

  it.each(['raw', { raw: true }, 1])('whose list of kinds is %j is refused with its path', (move) => {
    const main = application({ tsunagi: { move } })
    expect(() => readMoveRule({}, main)).toThrow(
      expect.objectContaining({
        code: 'ERR_TSUNAGI_OPTION',
        message: expect.stringMatching(/"tsunagi.move" in \/.*\/package.json is an array/),
      }),
    )
  })

  it.each([['websocket'], [1], [null]])('that names the kind %j is refused', (kind) => {
    const main = application({ tsunagi: { move: ['raw', kind] } })
    expect(() => readMoveRule({}, main)).toThrow(expect.objectContaining({ code: 'ERR_TSUNAGI_OPTION' }))
  })

  it('is not looked for without a main module', () => {
    expect(readMoveRule({}, undefined).asksFor('raw')).toBeUndefined()
  })
})

function folderWith(packageJson: object): string {
  const folder = mkdtempSync(join(tmpdir(), 'tsunagi-unit-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'package.json'), JSON.stringify(packageJson))
  return folder
}

function application(packageJson: object): string {
  const main = join(folderWith(packageJson), 'server.js')
  writeFileSync(main, '')
  return main
}
