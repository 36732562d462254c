import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig, type Options } from 'tsup'

const ROOT = fileURLToPath(new URL('.', import.meta.url))
const HALVES = /\/halves\.js$/
const DOORS = { index: 'src/index.ts', net: 'src/net.ts', register: 'src/register.ts' }

type Plugin = NonNullable<Options['esbuildPlugins']>[number]
type EsbuildOptions = Parameters<NonNullable<Options['esbuildOptions']>>[0]

/**
 * One copy of the code per process, however it is loaded: everything is bundled into core.cjs, and the doors (index, net, register),
 * built as ES modules and as CommonJS, do nothing but import it. Two copies would mean two lists of attached servers, and an ES
 * module application with a CommonJS preload would lose the connections of one of them.
 */
const oneCore: Plugin = {
  name: 'one-core',
  setup(build) {
    const isModule = build.initialOptions.format === 'esm'
    build.onResolve({ filter: /^\.\/core\.js$/ }, () =>
      isModule ? { path: 'core', namespace: 'one-core' } : { path: './core.cjs', external: true },
    )
    // Not `import './core.cjs'`: to find its names Node would parse the whole bundle in JavaScript, 35 ms of every start.
    build.onLoad({ filter: /.*/, namespace: 'one-core' }, () => ({
      contents: `import { createRequire } from 'node:module'\nexport const { ${namesOfDoors().join(', ')} } = createRequire(import.meta.url)('./core.cjs')`,
    }))
  },
}

/** The values that the doors take from the core. */
function namesOfDoors(): string[] {
  const names = new Set<string>()
  for (const door of Object.values(DOORS)) {
    for (const [, list] of readFileSync(door, 'utf8').matchAll(/\{([^}]*)\} from '\.\/core\.js'/g)) {
      for (const item of (list ?? '').split(',')) {
        const name = item.trim().split(' as ')[0]
        if (name && !name.startsWith('type ')) names.add(name)
      }
    }
  }
  return [...names]
}

/**
 * In place of src/halves.ts: what only src/both-halves.ts imports is a file of its own, halves.cjs, which the core reads at load and compiles at the
 * first need. Modules that the core has as well are shared with it, so that there is one copy of each.
 */
const readHalves: Plugin = {
  name: 'read-halves',
  setup(build) {
    build.onResolve({ filter: HALVES }, () => ({ path: 'halves', namespace: 'halves' }))
    build.onLoad({ filter: /.*/, namespace: 'halves' }, async () => {
      const core = await modulesOfCore(build.esbuild)
      const used = new Set<string>()
      await build.esbuild.build({ ...dryRun, entryPoints: ['src/both-halves.ts'], plugins: [sharedWithCore(core, used)] })
      return { contents: loaderOf([...used]), resolveDir: ROOT }
    })
  },
}

/** The other side of it. */
const halvesOfCore: Plugin = {
  name: 'halves-of-core',
  async setup(build) {
    sharedWithCore(await modulesOfCore(build.esbuild)).setup(build)
  },
}

type Esbuild = Parameters<Plugin['setup']>[0]['esbuild']

/** What the core has without the halves, and the names that each of its modules exports. */
async function modulesOfCore({ build }: Esbuild): Promise<Map<string, string[]>> {
  const options = { ...dryRun, plugins: [withoutHalves] }
  const { metafile } = await build({ ...options, entryPoints: ['src/core.ts'] })
  const paths = Object.keys(metafile.inputs).filter((path) => path.startsWith('src/'))
  const { metafile: each } = await build({ ...options, entryPoints: paths })
  return new Map(Object.values(each.outputs).flatMap(({ entryPoint, exports }) => (entryPoint ? [[entryPoint, exports]] : [])))
}

const withoutHalves: Plugin = {
  name: 'without-halves',
  setup(build) {
    build.onResolve({ filter: HALVES }, () => ({ path: 'halves', external: true }))
  },
}

function sharedWithCore(core: Map<string, string[]>, used = new Set<string>()): Plugin {
  return {
    name: 'shared-with-core',
    setup(build) {
      build.onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
        const source = relative(ROOT, join(resolveDir, path)).replace(/\.js$/, '.ts')
        if (!core.has(source)) return undefined
        used.add(source)
        return { path: source, namespace: 'shared' }
      })
      build.onLoad({ filter: /.*/, namespace: 'shared' }, ({ path }) => ({
        contents: `export const { ${core.get(path)?.join(', ')} } = __shared[${JSON.stringify(path)}]`,
      }))
    },
  }
}

function loaderOf(used: readonly string[]): string {
  return `
    import { readFileSync } from 'node:fs'
    import { createRequire } from 'node:module'
    import { fileURLToPath } from 'node:url'
    import { compileFunction } from 'node:vm'
    ${used.map((path, i) => `import * as shared${i} from './${path}'`).join('\n')}
    const filename = fileURLToPath(new URL('halves.cjs', import.meta.url))
    const bytes = readFileSync(filename)
    let compiled
    export function halves() {
      if (compiled) return compiled
      const shared = { ${used.map((path, i) => `${JSON.stringify(path)}: shared${i}`).join(', ')} }
      const module = { exports: {} }
      const run = compileFunction(bytes.toString(), ['require', 'module', '__filename', '__shared'], { filename })
      run(createRequire(import.meta.url), module, filename, shared)
      compiled = module.exports
      return compiled
    }`
}

/**
 * msgpackr without its optional native extractor, which it would look for on disk.
 * @note msgpackr 2.1.3: node-index.js is index.js plus streams and `require('msgpackr-extract')`.
 */
const pureMsgpackr: Plugin = {
  name: 'pure-msgpackr',
  setup(build) {
    build.onResolve({ filter: /^msgpackr$/ }, () => ({
      path: fileURLToPath(new URL('node_modules/msgpackr/index.js', import.meta.url)),
    }))
  },
}

/** No source maps: with --enable-source-maps Node would read them from disk at the first stack trace, long after they may be gone. */
const shared = {
  outDir: 'dist',
  platform: 'node',
  target: 'node20.11',
  removeNodeProtocol: false,
  splitting: false,
  sourcemap: false,
  silent: true,
} satisfies Options

/**
 * Without comments, whose characters beyond ASCII would have Node decode the whole file and V8 hold it in two bytes each: 1 ms of every start.
 * Names and short lines stay, for stack traces.
 */
function compact(options: EsbuildOptions): void {
  options.minifyWhitespace = true
  options.lineLimit = 140
}

const dryRun = {
  bundle: true,
  write: false,
  metafile: true,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  outdir: 'dist',
} as const

export default defineConfig([
  {
    ...shared,
    name: 'core',
    entry: { core: 'src/core.ts' },
    format: 'cjs',
    // import.meta.url of the source, which CommonJS does not have.
    shims: true,
    noExternal: ['msgpackr'],
    esbuildPlugins: [pureMsgpackr, readHalves],
    esbuildOptions: compact,
  },
  {
    ...shared,
    name: 'halves',
    entry: { halves: 'src/both-halves.ts' },
    format: 'cjs',
    shims: true,
    noExternal: ['msgpackr'],
    esbuildPlugins: [pureMsgpackr, halvesOfCore],
    esbuildOptions: compact,
  },
  {
    ...shared,
    name: 'doors',
    entry: DOORS,
    format: ['esm', 'cjs'],
    dts: { compilerOptions: { stripInternal: true } },
    esbuildPlugins: [oneCore],
  },
  {
    ...shared,
    name: 'cli',
    entry: { cli: 'src/cli.ts' },
    format: 'esm',
    banner: { js: '#!/usr/bin/env node' },
    noExternal: ['msgpackr'],
    esbuildPlugins: [pureMsgpackr],
  },
])
