// Looks at pages in a browser. In: [{html or url, width, more widths, axe}] on standard input. Out: for each page, what
// is wrong. Colors and structure do not depend on the width, so axe looks at the first width only.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { inBrowser, open } from '../../tools/browser/browser.mjs'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

// Runs in the page. Every finding is a sentence part that names the element.
function inspect() {
  const name = (element) => {
    const text = element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40)
    return `<${element.localName} class="${element.getAttribute('class') ?? ''}"> ${text}`
  }
  const all = [...document.body.querySelectorAll('*')]
  const drawn = all.filter((element) => !['style', 'script'].includes(element.localName))
  const overflow = []
  for (const element of [document.documentElement, ...drawn]) {
    if (element instanceof SVGElement) continue
    if (element.clientWidth && element.scrollWidth > element.clientWidth + 1) {
      overflow.push(`${element.scrollWidth} of ${element.clientWidth} pixels: ${name(element)}`)
    }
    const { left, right, width } = element.getBoundingClientRect()
    // Text for screen readers alone is one pixel wide.
    if (width > 1 && (left < -1 || right > innerWidth + 1)) overflow.push(`out of the page: ${name(element)}`)
  }
  const FORBIDDEN =
    'script,iframe,object,embed,form,input,button,textarea,select,link,meta,base,use,foreignObject,animate,set,cwdb-action'
  const elements = [...document.body.querySelectorAll(FORBIDDEN)].map((element) => element.localName)
  const attributes = []
  for (const element of all) {
    for (const { name: attribute, value } of element.attributes) {
      const isAddress = /^(xlink:)?(href|src)|action$/.test(attribute)
      if (attribute.startsWith('on')) attributes.push(`${attribute}="${value}"`)
      else if (isAddress && !/^(https:\/\/|#)/.test(value)) attributes.push(`${attribute}="${value}"`)
      else if (/url\(|expression\(/i.test(attribute === 'style' ? value : '')) attributes.push(`style="${value}"`)
    }
  }
  const styles = [...document.body.querySelectorAll('style')].map((one) => one.textContent)
  if (styles.some((text) => /url\(|@import/i.test(text))) attributes.push('a style that loads something')
  const ran = document.querySelectorAll('.ran').length
  return { overflow, elements, attributes, text: document.body.innerText, ran }
}

async function axe(page) {
  await page.evaluate(AXE)
  const { violations, incomplete } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }))
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
  // A contrast that axe can't calculate, for example over a gradient, is not known to be sufficient.
  const unknown = incomplete.filter(({ id }) => id === 'color-contrast')
  return [...serious, ...unknown].flatMap(({ id, nodes }) =>
    nodes.slice(0, 5).map((node) => `${id}: ${node.html.slice(0, 200)}: ${node.failureSummary ?? 'unknown'}`)
  )
}

await inBrowser(async (browser, pages) => {
  const found = []
  for (const given of pages) {
    const requests = []
    const page = await open(browser, given, requests)
    const findings = given.axe ? await axe(page) : []
    const views = []
    for (const width of [given.width, ...(given.more ?? [])]) {
      await page.setViewport({ width, height: 800 })
      views.push(await page.evaluate(inspect))
    }
    const frames = await Promise.all(page.frames().slice(1).map((frame) => frame.evaluate(inspect)))
    const overflow = views.flatMap((view, index) => view.overflow.map((one) => `view ${index + 1}: ${one}`))
    found.push({ ...views[0], overflow, frames, requests, axe: findings })
    await page.close()
  }
  return found
})
