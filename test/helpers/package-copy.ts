import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryDirectory } from './process.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** An application of its own, with a copy of this package and of the fixtures, which may be changed. Gone when the test is over. */
export class PackageCopy {
  readonly directory = temporaryDirectory()

  /** Without `addon`, as where no binary for this system is in the package. */
  constructor({ addon = true } = {}) {
    const installed = join(this.directory, 'node_modules', 'tsunagi')
    mkdirSync(installed, { recursive: true })
    for (const part of ['package.json', 'dist', ...(addon ? ['prebuilds'] : [])])
      cpSync(join(root, part), join(installed, part), { recursive: true })
    cpSync(join(root, 'node_modules', 'node-gyp-build'), join(this.directory, 'node_modules', 'node-gyp-build'), { recursive: true })
    cpSync(join(root, 'test', 'fixtures'), join(this.directory, 'fixtures'), { recursive: true })
  }

  fixture(name: string): string {
    return join(this.directory, 'fixtures', name)
  }

  /** Replaces the one place of the bundle that reads so. */
  edit(from: RegExp, to: string): void {
    const bundle = join(this.directory, 'node_modules', 'tsunagi', 'dist', 'core.cjs')
    const text = readFileSync(bundle, 'utf8')
    const found = text.match(new RegExp(from, 'g'))?.length ?? 0
    if (found !== 1) throw new Error(`${from} is in the bundle ${found} times`)
    writeFileSync(bundle, text.replace(from, to))
  }
}
