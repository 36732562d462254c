import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ERROR_CODES, misuse, TsunagiError } from '../../src/errors.js'

const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
const sections = page.split(/^### /m).slice(1)
const headings = sections.map((section) => section.slice(0, section.indexOf('\n')))

describe('docs/errors.md', () => {
  it('has one heading for each code, and no other', () => {
    expect([...headings].sort()).toEqual(Object.keys(ERROR_CODES).sort())
  })

  it.each(sections)('says what was tried, what happened and what to do: %.30s', (section) => {
    expect(section).toMatch(/\*\*Tried:\*\* .+\n\*\*Happened:\*\* [\s\S]+\n\*\*Next:\*\* ./)
  })
})

describe('an error', () => {
  it('keeps its cause, its phase and whether the predecessor serves', () => {
    const cause = new Error('underneath')
    const error = new TsunagiError('ERR_TSUNAGI_ABORTED', 'above', { phase: 'send', serving: true, cause })
    expect(error).toMatchObject({ name: 'TsunagiError', code: 'ERR_TSUNAGI_ABORTED', phase: 'send', serving: true, cause })
  })

  it('of wrong use is a TypeError with a code', () => {
    expect(misuse('ERR_TSUNAGI_OPTION', 'what is wrong')).toBeInstanceOf(TypeError)
    expect(misuse('ERR_TSUNAGI_OPTION', 'what is wrong')).toMatchObject({ code: 'ERR_TSUNAGI_OPTION', message: 'what is wrong' })
  })
})
