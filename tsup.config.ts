import { fileURLToPath } from 'node:url'
import { defineConfig, type Options } from 'tsup'

type Plugin = NonNullable<Options['esbuildPlugins']>[number]

/**
 * One copy of the code per process, however it is loaded: everything is bundled into core.cjs, and the doors (index, net, register),
 * built as ES modules and as CommonJS, do nothing but import it. Two copies would mean two lists of attached servers, and an ES
 * module application with a CommonJS preload would lose the connections of one of them.
 */
const oneCore: Plugin = {
  name: 'one-core',
  setup(build) {
    build.onResolve({ filter: /^\.\/core\.js$/ }, () => ({ path: './core.cjs', external: true }))
  },
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
    entry: { index: 'src/index.ts', net: 'src/net.ts', register: 'src/register.ts' },
    format: ['esm', 'cjs'],
    dts: { compilerOptions: { stripInternal: true } },
    esbuildPlugins: [oneCore],
  },
])
