// The picker's words in both languages; `{0}` is filled in by `say`.
export const WORDS = {
  zh: {
    fits: "放得下", tight: "很紧", no: "放不下", none: "无法估算",
    fitsTip: "区间上限也在显存之内", tightTip: "估算值放得下，区间上限放不下", noTip: "估算值超过可用显存",
    measured: "实测", interpolated: "插值", estimated: "估算", closed: "公式估算",
    basisTip: "依据：{0}", weights: "权重", adapters: "适配器", gradients: "梯度", optimizer: "优化器", activations: "激活值",
    logits: "logits", other: "其他", context: "CUDA 上下文与缓存", usable: "可用 {0} GiB", needs: "需要 {0} GiB（{1}–{2}）",
    speed: "{0} token/s", hours: "约 {0} 小时", minutes: "约 {0} 分钟", cost: "约 {0}（按 {1}/小时）", noSpeed: "速度未知",
    better: "{0} 份可比成绩表；不低于 {1}% 的可比模型", noEvidence: "没有可比的公开成绩", gated: "需申请访问",
    commercial: ["不可商用", "许可未知", "有条件商用", "可商用"], released: "发布 {0}", downloads: "30 天下载 {0}",
    read: "（{0}）", readOld: "（{0}，旧）", noDay: "日期未知",
    results: "{0} 个模型放得下，{1} 个很紧，{2} 个放不下", answer: "{0} · {1}：{2}，{3}，需要 {4} GiB", nothing: "{0} 在现在的设置下放不下任何符合条件的模型。最接近的是 {1}：先打开下面的开关。",
    noGpu: "没有显卡：下面按免费云端常见的 {0} 计算；CPU 只适合训练极小的模型，很慢。", notCuda: "{0} 不支持 bitsandbytes 的 CUDA 内核时，QLoRA 与 8 位优化器不可用；这里的数字按 CUDA 实现估算。",
    noBf16: "这张卡没有原生 bf16：训练配置已改用 fp16。", more: "再显示 {0} 个", details: "设置、显存构成与训练配置", compare: "对比", comparing: "并排对比",
    ladder: "先打开这些开关", ladderEmpty: "没有更省显存的开关了。", saves: "省 {0} GiB", costs: "多 {0} GiB", alone: "单独打开后{0}", upto: "连同以上各项：{0} GiB，{1}",
    lean: "换精简配方（按设计只差舍入，损失曲线尚未对比）", checkpointing: "打开梯度检查点（多约三成计算）", batch: "微批大小改为 1（加大累积步数）", adam8bit: "bf16 权重与 8 位 Adam", lora: "改用 LoRA",
    qlora: "改用 QLoRA（4 位底座）", rank: "LoRA 秩降到 8", shorter: "序列长度减半到 {0}", settings: "完整设置", config: "训练配置", copy: "复制", copied: "已复制",
    checked: "已用 {0} {1} 自带的参数解析器离线校验写法。", unchecked: "按 {0} {1} 的函数签名写成，没有运行过。", noConfig: "{0} 不支持这种方法，或本站没有校验过它的写法。",
    part: "部分", size: "GiB", share: "占比", method: "方法", recipe: "配方", seq: "序列长度", micro: "微批大小", gc: "梯度检查点", on: "开", off: "关", rankWord: "LoRA 秩",
    stock: "常规", leanName: "精简", page: "模型页", needFor: "要微调它需要什么卡？", model: "模型", card: "显卡", need: "需要", fit: "结论", time: "时间", price: "费用", close: "关闭",
    inverse: "微调 {0} 需要什么：{1} 种显卡放得下", sharded: "{0} 张卡全分片（公式估算）", beyond: "超出上下文长度 {0}", why: "排序依据", total: "总分",
    parts: { fit: "显存", quality: "成绩", size: "规模", start: "起点", language: "语言", licence: "许可", recency: "新旧", popularity: "流行" }, share_: "链接已复制", loadError: "数据没有加载成功，请刷新页面。", noTable: "估算系数尚未发布，下面只按任务适配度排序。",
  },
  en: {
    fits: "fits", tight: "tight", no: "too big", none: "no estimate",
    fitsTip: "even the upper end of the interval is within the card", tightTip: "the estimate fits, the upper end of its interval does not", noTip: "the estimate exceeds the usable memory",
    measured: "measured", interpolated: "interpolated", estimated: "estimated", closed: "estimated by formula",
    basisTip: "Basis: {0}", weights: "weights", adapters: "adapters", gradients: "gradients", optimizer: "optimiser", activations: "activations",
    logits: "logits", other: "other", context: "CUDA context and cache", usable: "{0} GiB usable", needs: "needs {0} GiB ({1}–{2})",
    speed: "{0} tokens/s", hours: "about {0} h", minutes: "about {0} min", cost: "about {0} (at {1}/h)", noSpeed: "speed unknown",
    better: "{0} comparable tables; not below {1}% of compared models", noEvidence: "no comparable published score", gated: "access on request",
    commercial: ["no commercial use", "licence unknown", "commercial with conditions", "commercial use"], released: "released {0}", downloads: "{0} downloads in 30 days",
    read: " ({0})", readOld: " ({0}, old)", noDay: "day unknown",
    results: "{0} models fit, {1} are tight, {2} are too big", answer: "{0} · {1}: {2}, {3}, needs {4} GiB", nothing: "With these settings nothing that meets your conditions fits {0}. Closest is {1}: switch on first what is listed below.",
    noGpu: "No GPU: shown for the {0} that free cloud notebooks offer; a CPU trains only tiny models, slowly.", notCuda: "Where {0} lacks bitsandbytes' CUDA kernels, QLoRA and 8-bit optimisers are unavailable; figures here assume CUDA.",
    noBf16: "This card has no native bf16: the training config uses fp16.", more: "Show {0} more", details: "Settings, memory by part, training config", compare: "compare", comparing: "Side by side",
    ladder: "Switch this on first", ladderEmpty: "No switch is left that saves memory.", saves: "saves {0} GiB", costs: "costs {0} GiB more", alone: "alone: {0}", upto: "with all above: {0} GiB, {1}",
    lean: "Lean recipe (rounding only by design; loss curves not compared yet)", checkpointing: "Gradient checkpointing (about a third more compute)", batch: "Micro-batch 1 (accumulate more)", adam8bit: "bf16 weights and 8-bit Adam", lora: "LoRA instead",
    qlora: "QLoRA instead (4-bit base)", rank: "LoRA rank 8", shorter: "Half the sequence length: {0}", settings: "Full settings", config: "Training config", copy: "Copy", copied: "Copied",
    checked: "Form checked offline with the argument parser of {0} {1}.", unchecked: "Written from the signatures of {0} {1}, not run.", noConfig: "{0} does not offer this method, or its form has not been checked here.",
    part: "Part", size: "GiB", share: "Share", method: "Method", recipe: "Recipe", seq: "Sequence length", micro: "Micro-batch", gc: "Gradient checkpointing", on: "on", off: "off", rankWord: "LoRA rank",
    stock: "stock", leanName: "lean", page: "Model page", needFor: "Which cards can fine-tune it?", model: "Model", card: "GPU", need: "Needs", fit: "Verdict", time: "Time", price: "Cost", close: "Close",
    inverse: "What {0} needs: {1} cards fit it", sharded: "{0} cards, fully sharded (by formula)", beyond: "beyond its context of {0}", why: "Why this rank", total: "total",
    parts: { fit: "memory", quality: "scores", size: "size", start: "start", language: "language", licence: "licence", recency: "recency", popularity: "popularity" }, share_: "Link copied", loadError: "The data did not load; please reload the page.", noTable: "Coefficients are not published yet; the order below is by suitability only.",
  },
};

export const METHOD = {
  full: "Full (fp32)", full_bf16_adam8bit: "Full (bf16 + 8-bit Adam)", lora: "LoRA", qlora: "QLoRA", lora_8bit: "LoRA 8-bit", dora: "DoRA", prompt_tuning: "Prompt tuning",
};

/** A phrase of `words` with its gaps filled. */
export const say = (phrase, ...values) => phrase.replace(/\{(\d)\}/g, (_, i) => String(values[i]));
