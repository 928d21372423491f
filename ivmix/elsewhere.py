"""What other libraries call an option, or where it went: for the message that says so."""

ELSEWHERE = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "image_guidance_scale": "image_guidance",
    "num_frames": "frames",
    "video_length": "frames",
    "prompt": "prompts, the first argument",
    "generator": "seed",
    "seeds": "seed, one number or one a prompt,",
    "n_prompt": "negative_prompt",
    "init_image": "video",
    "image": "video",
    "decode_chunk_size": "vae_tile",
    "num_videos_per_prompt": "a list of prompts, one clip each",
    "output_type": "result.frames and result.latents",
    "callback_on_step_end": "callback",
    "scheduler": "solver",
    "method": "sampler",
    "fps": "result.save(path, fps=…)",
    "device": "TextToVideo.from_pair(…, device=…)",
    "dtype": "TextToVideo.from_pair(…, dtype=…)",
}
