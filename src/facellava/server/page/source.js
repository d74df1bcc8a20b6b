// Where a picture comes from: a drop, a chosen file, or the camera, which is not touched before it is agreed to.

import { byId, show } from "./dom.js";

/** Call `take(file)` for what the user gives. */
export function listen(take) {
  const drop = byId("drop"), input = byId("file");
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
  camera(take);
}

function camera(take) {
  const dialog = byId("camera-dialog"), view = byId("camera-view");
  let stream = null;

  function off() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = view.srcObject = null;
    show(byId("camera-ask"), true);
    show(byId("camera-live"), false);
  }

  byId("camera").addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("close", off);
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());

  byId("camera-on").addEventListener("click", async () => {
    try {
      const found = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" }, audio: false });
      if (!dialog.open) return found.getTracks().forEach((track) => track.stop());
      stream = view.srcObject = found;
      await view.play();
    } catch {
      dialog.close();
      return take(null, "The camera cannot be used: there is none, or the browser does not allow it.");
    }
    show(byId("camera-ask"), false);
    show(byId("camera-live"), true);
    byId("camera-shot").focus();
  });

  byId("camera-shot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [view.videoWidth, view.videoHeight];
    canvas.getContext("2d").drawImage(view, 0, 0);
    canvas.toBlob((blob) => {
      dialog.close();
      take(new File([blob], "camera.jpg", { type: "image/jpeg" }));
    }, "image/jpeg", 0.95);
  });
}
