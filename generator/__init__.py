"""Finetune Atlas: curated catalog, Hub snapshot and measurements in; a bilingual guide out."""
