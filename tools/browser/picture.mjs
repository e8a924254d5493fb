// Takes pictures of whole pages. In: [{url or html, width, file}] on standard input.
import { inBrowser, open } from './browser.mjs'

await inBrowser(async (browser, shots) => {
  for (const shot of shots) {
    const page = await open(browser, shot)
    // A frame scrolls. A picture does not, so each frame gets the height of its content.
    for (const frame of page.mainFrame().childFrames()) {
      const height = await frame.evaluate(() => document.body.offsetHeight)
      const element = await frame.frameElement()
      await element.evaluate((iframe, pixels) => {
        iframe.parentElement.style.height = 'auto'
        Object.assign(iframe.style, { flex: 'none', height: `${pixels}px` })
      }, height)
    }
    // The browser draws only those frames that are inside the window.
    await page.setViewport({ width: shot.width, height: await page.evaluate(() => document.body.offsetHeight) })
    await page.waitForNetworkIdle()
    await page.screenshot({ path: shot.file })
    await page.close()
  }
})
