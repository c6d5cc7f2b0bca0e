"use strict";
const users = [...document.querySelectorAll("#users details")];
const search = document.getElementById("search");
const count = document.getElementById("count");
document.querySelector(".controls").hidden = false;
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const user of users) {
    const text = user.textContent.toLowerCase();
    user.hidden = !words.every((word) => text.includes(word));
    shown += !user.hidden;
  }
  count.textContent = shown + " of " + users.length + " users";
}
search.addEventListener("input", filter);
filter();
