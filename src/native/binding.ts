import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TsunagiError } from '../errors.js'
import { NATIVE_NAMES, type Native } from './native.js'

export type Binding = { native: Native; missing?: never } | { native?: never; missing: TsunagiError }

/**
 * The only place that loads the addon. Never throws: without the addon a server must start as if this library were not there,
 * and `missing` is what to tell the user then.
 */
export function loadBinding(): Binding {
  const unsupported = whyUnsupported()
  if (unsupported !== undefined) return missing(unsupported)

  let native: Native
  try {
    native = loadAddon(packageRoot())
  } catch (cause) {
    return missing(
      `loading the native addon for ${platform()} failed: ${messageOf(cause)}. Reinstall tsunagi on this machine, or build the addon with "node addon/build.mjs" in its repository`,
      cause,
    )
  }

  const absent = NATIVE_NAMES.filter((name) => typeof native[name] !== 'function')
  if (absent.length > 0) {
    return missing(
      `the native addon that was found for ${platform()} is of another version of tsunagi (it has no ${absent.join(', ')}). Reinstall tsunagi, or build the addon again with "node addon/build.mjs" in its repository`,
    )
  }
  return provenBySelfTest(native)
}

/** Asked of the addon, since loading node:worker_threads would cost every start 1.5 ms. */
export function isMainThread({ native }: Binding): boolean {
  if (native) return native.isMainThread()
  const require = createRequire(import.meta.url)
  return (require('node:worker_threads') as typeof import('node:worker_threads')).isMainThread
}

/** The addon reads libuv's structs; a Node whose libuv lays them out otherwise must not be touched by it. */
function provenBySelfTest(native: Native): Binding {
  try {
    const difference = native.selfTest()
    if (difference === '') return { native }
    return missing(
      `the native addon does not fit the libuv ${process.versions.uv} of Node ${process.version}: its self-test says "${difference}". Update tsunagi, or use a Node version that it supports`,
    )
  } catch (cause) {
    return missing(`the self-test of the native addon on ${platform()} failed: ${messageOf(cause)}`, cause)
  }
}

function whyUnsupported(): string | undefined {
  if (process.platform !== 'linux') {
    return `connections can be handed over on Linux only, and this is ${process.platform}`
  }
  if (Number.parseInt(process.versions.node, 10) < 20) {
    return `handing over connections needs Node 20 or later, and this is ${process.version}. Update Node`
  }
  return undefined
}

function loadAddon(root: string): Native {
  const require = createRequire(import.meta.url)
  const ownAddon = addonOfPackage(root)
  if (ownAddon) return require(ownAddon) as Native
  const nodeGypBuild = require('node-gyp-build') as (root: string) => Native
  return nodeGypBuild(root)
}

/** What node-gyp-build finds in the published package, in a tenth of its time. Any other place, and what its variables ask for, is left to it. */
function addonOfPackage(root: string): string | undefined {
  if (process.env['LIBC'] ?? process.env['TSUNAGI_PREBUILD']) return undefined
  const libc = existsSync('/etc/alpine-release') ? 'musl' : 'glibc'
  const file = join(root, 'prebuilds', `${process.platform}-${process.arch}`, `tsunagi.napi.${libc}.node`)
  return existsSync(file) ? file : undefined
}

/** This file runs from src/native/, or bundled from dist/: the package is the nearest folder above that is named so. */
export function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url))
  for (let folder = start; ; folder = dirname(folder)) {
    if (isPackageRoot(folder)) return folder
    if (dirname(folder) === folder) throw new Error(`no folder above ${start} has the package.json of tsunagi`)
  }
}

function isPackageRoot(folder: string): boolean {
  const file = join(folder, 'package.json')
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown }).name === 'tsunagi'
}

function platform(): string {
  return `${process.platform}-${process.arch}, Node ${process.version}`
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message.trim().replaceAll(/\s*\n\s*/g, ', ') : String(cause)
}

function missing(message: string, cause?: unknown): Binding {
  return { missing: new TsunagiError('ERR_TSUNAGI_ADDON', message, cause === undefined ? {} : { cause }) }
}
