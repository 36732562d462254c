import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
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

  /** Replaces the one place of the bundles that reads so. */
  edit(from: RegExp, to: string): void {
    const dist = join(this.directory, 'node_modules', 'tsunagi', 'dist')
    const bundles = readdirSync(dist).filter((name) => name.endsWith('.cjs'))
    const places = bundles.flatMap((name) => [...readFileSync(join(dist, name), 'utf8').matchAll(new RegExp(from, 'g'))].map(() => name))
    const [bundle, another] = places
    if (bundle === undefined || another) throw new Error(`${from} is in the bundles ${places.length} times`)
    const path = join(dist, bundle)
    writeFileSync(path, readFileSync(path, 'utf8').replace(from, to))
  }
}
