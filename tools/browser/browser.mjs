// Starts the browser of the package @sparticuz/chromium, and ends it with the work that is done in it.
import chromium from '@sparticuz/chromium'
import puppeteer from 'puppeteer-core'
import { text } from 'node:stream/consumers'

// The sandbox of Chromium needs rights that containers and some distributions refuse. The pages are our own, and they
// may make no requests but to loopback. The package's other flags are for Lambda; some of them weaken what the tests
// look at, such as the same-origin policy.
const FLAGS = ['--no-sandbox', '--no-zygote', '--disable-gpu', '--hide-scrollbars', '--font-render-hinting=none']

// Calls `work(browser, given)` with the JSON on standard input, and prints its result as JSON.
export async function inBrowser(work) {
  const given = JSON.parse(await text(process.stdin))
  chromium.setGraphicsMode = false
  const browser = await puppeteer.launch({
    executablePath: await chromium.executablePath(),
    headless: 'shell',
    args: FLAGS
  })
  try {
    process.stdout.write(JSON.stringify((await work(browser, given)) ?? null))
  } finally {
    await browser.close()
  }
}

// Opens a page at an address or with the given HTML. `requests` gets the address of each request that the page makes,
// except those that its Content-Security-Policy stops.
export async function open(browser, { url, html, width, height = 800 }, requests = []) {
  const page = await browser.newPage()
  await page.setViewport({ width, height })
  page.on('requestfinished', (request) => requests.push(request.url()))
  page.on('requestfailed', (request) => {
    // A request that the policy stopped has no error of the network.
    if (request.failure()) requests.push(request.url())
  })
  if (url) {
    await page.goto(url, { waitUntil: 'networkidle0' })
    // On a busy machine, the page may make no request for half a second before its frames begin to load.
    await Promise.all(page.frames().map(loaded))
  } else await page.setContent(html)
  return page
}

// Waits until the document of a frame is there.
async function loaded(frame) {
  while (!(await frame.evaluate(() => document.readyState === 'complete' && location.href !== 'about:blank'))) {
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
