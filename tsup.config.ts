import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig, type Options } from 'tsup'

const DOORS = { index: 'src/index.ts', net: 'src/net.ts', register: 'src/register.ts' }

type Plugin = NonNullable<Options['esbuildPlugins']>[number]

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

export default defineConfig([
  {
    ...shared,
    name: 'core',
    entry: { core: 'src/core.ts' },
    format: 'cjs',
    // import.meta.url of the source, which CommonJS does not have.
    shims: true,
    noExternal: ['msgpackr'],
    esbuildPlugins: [pureMsgpackr],
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
